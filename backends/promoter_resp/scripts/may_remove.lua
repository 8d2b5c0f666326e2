  -- A promotion adds a job before it removes it. Without permission to remove, each tick would add the same jobs again.
  if redis.acl_check_cmd and not redis.acl_check_cmd('ZREMRANGEBYRANK', KEYS[2], 0, 0) then
    return redis.error_reply("NOPERM User has no permissions to run the 'zremrangebyrank' command")
  end
