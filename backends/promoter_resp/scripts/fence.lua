if call('GET', lock) ~= ARGV[1] then
  return {-1}
end
if lease > 0 then
  call('PEXPIRE', lock, lease)
end
