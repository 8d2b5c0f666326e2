from promoter_core import ConfigError, Overflow, PromoterSettings

settings = PromoterSettings(lock_ttl_ms=10_000, max_stream_len=50_000, overflow=Overflow.HOLD)
print(settings.lock_ttl_ms, settings.overflow)
try:
    PromoterSettings(lock_ttl_ms=1)
except ConfigError as error:
    print(error)

# prints
# 10000 hold
# lock_ttl_ms must be a whole number from 100 to 3600000, not 1
