"""`forebay top`: a live view of the buffers of a running program.

The path of a figure: `Buffers.statistics()` in the program, `forebay/_statistics_socket.py` (the
server), `client.py` (asks the server), `columns.py` (computes a figure from two answers),
`history.py` (keeps the samples), `view.py` (draws them), `command.py` (runs all of this).
"""
