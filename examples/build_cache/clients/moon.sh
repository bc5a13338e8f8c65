export MOON_CACHE_TOKEN=secret-token
