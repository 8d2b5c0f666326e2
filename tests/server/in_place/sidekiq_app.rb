# Sidekiq's own producer, poller and worker, for the tests of the layout `sidekiq`.
#   ruby sidekiq_app.rb produce < jobs    one job for each line {"class", "at", "args"}; prints its jid
#   ruby sidekiq_app.rb take              jobs that have arrived, and takes them
#   ruby sidekiq_app.rb poll              what the poller does at each of its looks, once
#   sidekiq -r ./sidekiq_app.rb           a worker
require "sidekiq"
require "sidekiq/api"
require "sidekiq/scheduled"

Sidekiq.configure_server do |config|
  config.redis = {url: ENV["REDIS_URL"]}
  config.options[:poll_interval_average] = (ENV["POLL_S"] || "3600").to_f
end
Sidekiq.configure_client { |config| config.redis = {url: ENV["REDIS_URL"]} }

def done(jid, args)
  Sidekiq.redis { |redis| redis.rpush("done", Sidekiq.dump_json([jid, Time.now.to_f, args])) }
end

class Echo
  include Sidekiq::Worker
  sidekiq_options queue: "mail"

  def perform(*args)
    done(jid, args)
  end
end

class FailsOnce
  include Sidekiq::Worker
  sidekiq_options queue: "mail", retry: 3
  sidekiq_retry_in { 1 }

  def perform(*args)
    first = Sidekiq.redis { |redis| redis.incr("tries:#{jid}") } == 1
    raise "the first time" if first
    done(jid, args)
  end
end

case ARGV[0]
when "produce"
  STDIN.each_line do |line|
    job = Sidekiq.load_json(line)
    puts Object.const_get(job["class"]).perform_at(job["at"], *job["args"])
  end
when "take"
  Sidekiq::Queue.new("mail").each do |job|
    puts Sidekiq.dump_json([job.jid, job.args])
    job.delete
  end
when "poll"
  Sidekiq::Scheduled::Enq.new.enqueue_jobs
end
