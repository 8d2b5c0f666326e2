<?php
// Laravel's queue on Redis. A worker moves what is due each time that it pops; it blocks for up to 5 seconds.
require __DIR__ . '/../../plugins/promoter_layouts/demos/laravel_queue.php';

[, $command, $url, $name, $path] = array_pad($argv, 5, null);
$queue = laravel_queue($url, $name);
switch ($command) {
    case 'produce':
        $jobs = json_decode(file_get_contents($path));
        $start = (int) ceil(microtime(true) + 1.5 + count($jobs) / 100);
        foreach ($jobs as $job) {
            $due = (int) ($job->due ?? $start + $job->in);
            $queue->later((new DateTime)->setTimestamp($due), 'Note', [$job->id, $job->value]);
        }
        echo $start, "\n";
        break;
    case 'move':
        $queue->migrateExpiredJobs("queues:$name:delayed", "queues:$name");
        break;
    default:
        while (true) {
            if (($job = $queue->pop($name)) !== null) {
                [$id, $value] = $job->payload()['data'];
                $line = json_encode(['id' => $id, 'at' => microtime(true), 'value' => $value]);
                file_put_contents($path, "$line\n", FILE_APPEND);
                $job->delete();
            }
        }
}
