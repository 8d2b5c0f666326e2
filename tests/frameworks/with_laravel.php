<?php
// Laravel's queue on Redis. A worker moves what is due each time that it pops; it blocks for up to 5 seconds.
require '/usr/share/php/Illuminate/Queue/autoload.php';
require '/usr/share/php/Illuminate/Redis/autoload.php';
require '/usr/share/php/Illuminate/Container/autoload.php';

use Illuminate\Container\Container;
use Illuminate\Queue\RedisQueue;
use Illuminate\Redis\RedisManager;

[, $command, $url, $name, $path] = array_pad($argv, 5, null);
$at = parse_url($url);
$container = new Container;
$manager = new RedisManager($container, 'phpredis', ['default' => [
    'host' => $at['host'], 'port' => $at['port'], 'database' => (int) trim($at['path'] ?? '0', '/'), 'read_timeout' => 60,
]]);
$queue = new RedisQueue($manager, $name, 'default', 60, 5);
$queue->setContainer($container);
$queue->setConnectionName('redis');
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
