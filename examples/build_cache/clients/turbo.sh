export TURBO_TOKEN=secret-token
export TURBO_REMOTE_CACHE_SIGNATURE_KEY=a-key-that-the-server-does-not-know
