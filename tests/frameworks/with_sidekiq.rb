# Sidekiq. Each process polls its sets; `work` has it do so hardly ever.
require "sidekiq"
require "sidekiq/scheduled"

COMMAND, URL, QUEUE, PATH = ENV["WITH_SIDEKIQ"]&.split("\t") || ARGV

Sidekiq.configure_client { |config| config.redis = {url: URL} }
Sidekiq.configure_server do |config|
  config.redis = {url: URL}
  config.options[:poll_interval_average] = 3600.0 if COMMAND == "work"
end

class Note
  include Sidekiq::Worker
  sidekiq_options queue: "notes", retry: false

  def perform(id, value)
    line = Sidekiq.dump_json({id: id, at: Time.now.to_f, value: value})
    File.open(PATH, "a") { |file| file.syswrite(line + "\n") }
  end
end

case COMMAND
when "produce"
  jobs = Sidekiq.load_json(File.read(PATH))
  start = (Time.now.to_f + 1.5 + jobs.length / 100.0).ceil
  jobs.each { |job| Note.perform_at(job["due"] || start + job["in"], job["id"], job["value"]) }
  puts start
when "move"
  Sidekiq::Scheduled::Enq.new.enqueue_jobs
when "work", "work-own"
  unless ENV["WITH_SIDEKIQ"] # once more, as the worker's own command
    ENV["WITH_SIDEKIQ"] = [COMMAND, URL, QUEUE, PATH].join("\t")
    exec("sidekiq", "-r", File.expand_path(__FILE__), "-q", "notes", "-c", "5")
  end
end
