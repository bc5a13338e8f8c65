"""A production cache trace, replayed through `forebay.cache` and checked."""
