# The job of the demo's Sidekiq worker. Run alone, it schedules: a line with a number, and a due time or none, is a job.
require "sidekiq"

REDIS = {url: ENV.fetch("PROMOTER_DEMO_URL")}
Sidekiq.configure_client { |config| config.redis = REDIS }
Sidekiq.configure_server { |config| config.redis = REDIS }

class Note
  include Sidekiq::Worker
  sidekiq_options retry: false

  def perform(number)
    at = Time.now.to_f
    Sidekiq.redis { |redis| redis.rpush("promoter-demo:arrived", "#{number} #{at}") }
  end
end

if $PROGRAM_NAME == __FILE__
  $stdout.sync = true
  $stdin.each_line do |line|
    number, due = line.split
    due ? Note.perform_at(due.to_f, number.to_i) : Note.perform_async(number.to_i)
    puts "scheduled"
  end
end
