  -- A promotion adds a job before it removes it: who may not remove would add the same jobs in each tick.
  if redis.acl_check_cmd and not redis.acl_check_cmd('ZREMRANGEBYRANK', KEYS[2], 0, 0) then
    return redis.error_reply("NOPERM User has no permissions to run the 'zremrangebyrank' command")
  end
