<?php
// Laravel's own queue, for the tests of the layout `laravel`.
//   php laravel_app.php produce    one job for each line {"delay" in s or "at", "data"} of the input; prints its id
//   php laravel_app.php work [once]  pops jobs as its worker does, and writes each to the list `done`; migrates due jobs
//   php laravel_app.php take [once]   pops jobs that have arrived, and migrates none
//   php laravel_app.php poll       migrates due jobs, once; migrate: all the time
require '/usr/share/php/Illuminate/Queue/autoload.php';
require '/usr/share/php/Illuminate/Redis/autoload.php';
require '/usr/share/php/Illuminate/Container/autoload.php';

use Illuminate\Container\Container;
use Illuminate\Queue\RedisQueue;
use Illuminate\Redis\RedisManager;

$url = parse_url(getenv('REDIS_URL'));
$container = new Container;
$manager = new RedisManager($container, 'phpredis', [
    'options' => ['prefix' => getenv('PREFIX') ?: ''],
    'default' => ['host' => $url['host'], 'port' => $url['port'], 'database' => (int) trim($url['path'] ?? '0', '/'), 'read_timeout' => 60],
]);
class NoMigration extends RedisQueue
{
    protected function migrate($queue) {}
}
$class = $argv[1] === 'take' ? NoMigration::class : RedisQueue::class;
$queue = new $class($manager, 'default', 'default', 60, $argv[1] === 'poll' || ($argv[2] ?? '') === 'once' ? null : 5);
$queue->setContainer($container);
$queue->setConnectionName('redis');
switch ($argv[1]) {
    case 'produce':
        while (($line = fgets(STDIN)) !== false) {
            $job = json_decode($line);
            $when = isset($job->at) ? DateTime::createFromFormat('U.u', sprintf('%.6f', $job->at)) : $job->delay;
            echo $queue->later($when, 'Job', $job->data), "\n";
        }
        break;
    case 'poll':
        $queue->migrateExpiredJobs('queues:default:delayed', 'queues:default');
        break;
    case 'migrate':
        while (true) {
            $queue->migrateExpiredJobs('queues:default:delayed', 'queues:default');
            usleep(50000);
        }
    default:
        while (true) {
            $job = $queue->pop('default');
            if ($job !== null) {
                $payload = $job->payload();
                if (($argv[2] ?? '') === 'once') {
                    echo json_encode([$payload['id'], json_decode($job->getRawBody())->data]), "\n";
                } else {
                    $manager->connection()->rpush('done', json_encode([$payload['id'], microtime(true), $payload['data']]));
                }
                $job->delete();
            } elseif (($argv[2] ?? '') === 'once') {
                break;
            }
        }
}
