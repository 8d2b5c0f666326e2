<?php
// Laravel's queue on Redis, without an application: of Debian's php-illuminate-queue and php-redis.
require '/usr/share/php/Illuminate/Queue/autoload.php';
require '/usr/share/php/Illuminate/Redis/autoload.php';
require '/usr/share/php/Illuminate/Container/autoload.php';

use Illuminate\Container\Container;
use Illuminate\Queue\RedisQueue;
use Illuminate\Redis\RedisManager;

// A queue whose `pop` blocks for up to 5 seconds.
function laravel_queue(string $url, string $name): RedisQueue
{
    $at = parse_url($url);
    $container = new Container;
    $manager = new RedisManager($container, 'phpredis', ['default' => [
        'host' => $at['host'],
        'port' => $at['port'],
        'database' => (int) trim($at['path'] ?? '0', '/'),
        'read_timeout' => 60,
    ]]);
    $queue = new RedisQueue($manager, $name, 'default', 60, 5);
    $queue->setContainer($container);
    $queue->setConnectionName('redis');
    return $queue;
}
