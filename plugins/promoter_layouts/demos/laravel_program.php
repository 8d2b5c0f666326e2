<?php
// `work QUEUE` runs the demo's jobs; `schedule QUEUE` takes a line with a number, and a due time or none, for a job.
require __DIR__ . '/laravel_queue.php';

[, $command, $name] = $argv;
$queue = laravel_queue(getenv('PROMOTER_DEMO_URL'), $name);
if ($command === 'work') {
    while (true) {
        if (($job = $queue->pop($name)) !== null) {
            [$number] = $job->payload()['data'];
            $queue->getRedis()->connection()->rpush('promoter-demo:arrived', "$number " . microtime(true));
            $job->delete();
        }
    }
}
while (($line = fgets(STDIN)) !== false) {
    [$number, $due] = array_pad(explode(' ', trim($line)), 2, null);
    if ($due === null) {
        $queue->push('Note', [(int) $number]);
    } else {
        $queue->later((new DateTime)->setTimestamp((int) $due), 'Note', [(int) $number]);
    }
    echo "scheduled\n";
}
