"""The path of an entry through one buffer: channel, worker task, ledger."""
