"""`promoter_core.sync` across processes, on a real server: forks, web servers, task workers, ends and hung servers.

Bounds of time are generous: they tell an end from none.
"""

from __future__ import annotations

import http.client
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from ulid import ULID

from promoter_core import TransientError
from promoter_core.sync import DelayedQueue, connect
from tests.servers import free_port
from tests.typed import present, untyped

pytestmark = pytest.mark.server

FORK, SPAWN = (multiprocessing.get_context(method) for method in ("fork", "spawn"))
LONG_S = 60


def schedule_some(queue, count, answers):
    answers.put([os.getpid(), [queue.schedule({"n": n}, delay=3600).id for n in range(count)]])


def in_children(context, target, children, *args):
    """What `children` processes put into a queue, and their exit codes."""
    answers = context.Queue()
    processes = [context.Process(target=target, args=(*args, answers)) for _ in range(children)]
    for process in processes:
        process.start()
    try:
        return [answers.get(timeout=LONG_S) for _ in processes], processes
    finally:
        for process in processes:
            process.join(LONG_S)
            process.kill()


@pytest.mark.parametrize("scheme", ["redis", "glide"])
def test_a_forked_child_goes_on_with_the_queue_and_so_does_its_parent(valkey, scheme):
    with connect(valkey.url.replace("redis", scheme, 1)) as backend:
        queue = DelayedQueue(backend, f"q-{ULID()}")
        ids = [queue.schedule(0, delay=3600).id]  # the parent's connections are open
        for _ in range(3):
            with ThreadPoolExecutor(4) as pool:
                calls = [pool.submit(queue.schedule, 1, delay=3600) for _ in range(200)]  # under way at the fork
                answers, processes = in_children(FORK, schedule_some, 3, queue, 30)
                ids += [call.result(LONG_S).id for call in calls]
            assert [process.exitcode for process in processes] == [0, 0, 0]
            ids += [id for _, some in answers for id in some]
        assert len(set(ids)) == len(ids) == queue.stats().depth == 1 + 3 * (200 + 90)


def test_children_of_children_and_connections_not_opened_yet_work(valkey):
    backend = connect(valkey.url)
    queue = DelayedQueue(backend, f"q-{ULID()}")

    def child(depth, answers):
        if depth:
            (below,), _ = in_children(FORK, child, 1, depth - 1)
            answers.put([queue.schedule(depth, delay=3600).id, *below])
        else:
            answers.put([queue.schedule(depth, delay=3600).id])

    (ids,), _ = in_children(FORK, child, 1, 2)
    assert len(set(ids)) == 3 == queue.stats().depth
    backend.close()


def test_a_child_that_closes_or_leaves_the_queue_does_not_close_the_parents(valkey):
    with connect(valkey.url) as backend:
        queue = DelayedQueue(backend, f"q-{ULID()}")
        clients = valkey.ask("CLIENT", "LIST").count(b" addr=")
        queue.schedule(1, delay=3600)
        for leave in ("close", "exit", "use and exit", "kill"):
            if (pid := os.fork()) == 0:
                try:
                    if leave == "close":
                        backend.close()
                    if leave == "use and exit":
                        queue.schedule(2, delay=3600)
                    if leave == "kill":
                        os.kill(os.getpid(), signal.SIGKILL)
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            assert queue.schedule(3, delay=3600).created
        assert queue.stats().depth == 6
        until = time.monotonic() + LONG_S
        while valkey.ask("CLIENT", "LIST").count(b" addr=") > clients + 1 and time.monotonic() < until:
            time.sleep(0.05)
        assert valkey.ask("CLIENT", "LIST").count(b" addr=") <= clients + 1  # what children opened has gone with them


def test_a_child_holds_no_connection_of_the_parent(valkey):
    """The server sees the parent's `close` while the child lives on."""
    name = f"n-{ULID()}"
    backend = connect(valkey.url)
    queue = DelayedQueue(backend, name)
    before = valkey.ask("CLIENT", "LIST").count(b" addr=")
    queue.stats()
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        backend.close()
        until = time.monotonic() + LONG_S
        while valkey.ask("CLIENT", "LIST").count(b" addr=") > before and time.monotonic() < until:
            time.sleep(0.02)
        assert valkey.ask("CLIENT", "LIST").count(b" addr=") <= before
    finally:
        os.close(writing)
        os.waitpid(pid, 0)


def test_an_iterator_that_the_parent_began_says_so_in_a_child():
    with connect("memory://") as backend:
        queue = DelayedQueue(backend, "q")
        for n in range(150):
            queue.schedule(n, delay=3600)
        jobs = queue.scan()
        next(jobs)

        def child(answers):
            try:
                answers.put(len(list(jobs)))
            except TransientError as error:
                answers.put(str(error))

        (answer,), _ = in_children(FORK, child, 1)
        assert answer == "the iterator was begun by another process or connection"
        assert len(list(jobs)) == 149


WITHOUT_HOOKS = """
import ctypes, os, sys, threading
from promoter_core.sync import DelayedQueue, connect
queue = DelayedQueue(connect(sys.argv[1]), sys.argv[2])
ids = {queue.schedule(0, delay=3600).id}
reading, writing = os.pipe()
if (pid := ctypes.PyDLL(None).fork()) == 0:
    os.write(writing, " ".join(queue.schedule(n, delay=3600).id for n in range(20)).encode())
    os._exit(0)
ids |= {queue.schedule(n, delay=3600).id for n in range(20)}
os.waitpid(pid, 0)
ids |= set(os.read(reading, 10_000).decode().split())
print(len(ids), queue.stats().depth)
"""


def test_a_child_that_was_forked_without_pythons_hooks_works(valkey):
    """As uWSGI forks its workers."""
    command = [sys.executable, "-c", WITHOUT_HOOKS, valkey.url, f"q-{ULID()}"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S)
    assert (run.stdout, run.stderr) == ("41 41\n", "")


def spawned(url, queue, answers):
    with connect(url) as backend:
        schedule_some(DelayedQueue(backend, queue), 10, answers)


def test_a_spawned_child_connects_by_itself_and_a_connection_is_not_pickled(valkey):
    with connect(valkey.url) as backend:
        queue = DelayedQueue(backend, f"q-{ULID()}")
        queue.stats()
        answers, _ = in_children(SPAWN, spawned, 2, valkey.url, queue.name)
        assert len({id for _, some in answers for id in some}) == 20 == queue.stats().depth
        with pytest.raises(TypeError, match="in the other one"):
            pickle.dumps(queue)


@contextmanager
def process(*command, url, **variables):
    env = os.environ | {"PROMOTER_TEST_URL": url} | variables
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as p:
        log = untyped(p).log = []
        reader = threading.Thread(target=lambda: log.extend(present(p.stdout)), daemon=True)
        reader.start()
        try:
            yield p
        finally:
            if p.poll() is None:
                p.terminate()
                try:
                    p.wait(LONG_S)
                except subprocess.TimeoutExpired:
                    p.kill()
                    raise
            reader.join(5)


def need(*modules):
    """Skip without them. They are not imported: some of them change what a fork does."""
    for module in modules:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


class Site:
    """Asks a web server on this machine, again while a worker is on its way."""

    def __init__(self, port):
        self._port = port

    def get(self, job_id):
        until = time.monotonic() + LONG_S
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=LONG_S)
                connection.request("GET", f"/?id={job_id}")
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except (OSError, http.client.HTTPException):
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            finally:
                connection.close()


def gunicorn(port, *options):
    return (
        *(sys.executable, "-m", "gunicorn", "--preload", "-b", f"127.0.0.1:{port}", "--graceful-timeout", "20"),
        *(*options, "tests.server.sync_app:app"),
    )


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_gunicorns_preloaded_application_answers_each_request_through_kills_and_restarts(server, kind):
    need("gunicorn")
    site = Site(port := free_port())
    options = ["-k", kind, "-w", "3", "--threads", "1" if kind == "sync" else "4", "--max-requests", "60"]
    with process(*gunicorn(port, *options), url=server.url, PROMOTER_TEST_EARLY="1") as master:
        pids: Counter[int] = Counter()
        killed: set[int] = set()

        def ask(n):
            status, text = site.get(f"job-{n}")
            assert status == 200, text
            pid, job, outcome = text.split()
            assert job == f"job-{n}"
            assert outcome == "CREATED" or killed  # a request of a killed worker is sent again
            pids[int(pid)] += 1
            return int(pid)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(100)))
            victim = pids.most_common(1)[0][0]
            killed.add(victim)
            with_kill = [pool.submit(ask, n) for n in range(100, 300)]
            with suppress(ProcessLookupError):  # recycled already
                os.kill(victim, signal.SIGKILL)
            for call in with_kill:
                call.result(LONG_S)
        assert len(pids) >= 4  # three workers, and those that took the places of the ended
        assert master.pid not in pids
        master.terminate()
        assert master.wait(LONG_S) == 0
    with connect(server.url) as backend:
        assert DelayedQueue(backend, "mails").stats().depth == 300
    assert not re.search("Traceback|WORKER TIMEOUT", "".join(master.log)), "".join(master.log)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("early", ["", "1"])
def test_gunicorns_gevent_workers_answer_with_one_clear_message(server, early):
    need("gunicorn", "gevent")
    site = Site(port := free_port())
    with process(*gunicorn(port, "-k", "gevent", "-w", "1"), url=server.url, PROMOTER_TEST_EARLY=early) as master:
        until = time.monotonic() + LONG_S
        while master.poll() is None and not any("Booting worker" in line for line in master.log):
            assert time.monotonic() < until, master.log
            time.sleep(0.05)
        said = site.get("a")[1] if master.poll() is None else "".join(master.log)
        assert "gevent's monkey patching does not allow: use threads instead" in said


@pytest.mark.timeout(240)
def test_celerys_prefork_tasks_schedule_jobs_and_survive_a_soft_time_limit(server):
    need("celery")
    command = [sys.executable, "-m", "celery", "-A", "tests.server.sync_tasks", "worker", "-P", "prefork", "-c", "2"]
    script = """
import sys
from tests.server.sync_tasks import schedule, too_long
answers = [schedule.delay(f"job-{n}") for n in range(40)] + [too_long.delay("late")]
print(*[answer.get(timeout=90) for answer in answers], sep="\\n")
"""
    with process(*command, url=server.url) as worker:
        env = os.environ | {"PROMOTER_TEST_URL": server.url}
        run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=150)
        assert run.returncode == 0, run.stderr + "".join(worker.log)
    *jobs, late = map(eval, run.stdout.splitlines())
    assert [job[1:] for job in jobs] == [[f"job-{n}", "CREATED"] for n in range(40)]
    assert len({pid for pid, *_ in jobs}) == 2
    assert late == [True, "CREATED"]


SCRIPT = """
import sys, threading, time
from promoter_core.sync import DelayedQueue, connect
backend = connect(sys.argv[1] + "?command_timeout_ms=1500")
queue = DelayedQueue(backend, "q")
queue.stats()
print("ready", flush=True)
sys.stdin.readline()
"""
ENDS = {
    "nothing under way": "",
    "a call in a daemon thread": "threading.Thread(target=queue.stats, daemon=True).start(); time.sleep(0.2)",
    "a call in a thread": "threading.Thread(target=queue.stats).start()",
    "a call in the main thread": "queue.stats()",
    "an open with": "backend.__enter__()",
}


@pytest.mark.parametrize("how", ENDS)
def test_the_interpreter_ends_though_the_server_hangs(server, how):
    command = [sys.executable, "-c", SCRIPT + ENDS[how], server.url]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) as p:
        assert present(p.stdout).readline() == "ready\n"
        server.kill(signal.SIGSTOP)
        try:
            _, errors = p.communicate("\n", timeout=LONG_S)
        except subprocess.TimeoutExpired:
            p.kill()
            raise
        finally:
            server.kill(signal.SIGCONT)
    if how in ("a call in a daemon thread", "nothing under way", "an open with"):
        assert p.returncode == 0, errors
    if "call in" in how and "daemon" not in how:
        assert "TransientError" in errors


def test_ctrl_c_ends_a_script_whose_server_hangs(server):
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT + "queue.stats()", server.url], stdin=-1, stdout=-1, stderr=-1, text=True
    ) as p:
        assert p.stdin
        assert p.stdout
        p.stdout.readline()
        server.kill(signal.SIGSTOP)
        p.stdin.write("\n")
        p.stdin.flush()
        time.sleep(0.3)
        p.send_signal(signal.SIGINT)
        _, errors = p.communicate(timeout=LONG_S)
        server.kill(signal.SIGCONT)
    assert p.returncode == -signal.SIGINT
    assert errors.count("KeyboardInterrupt") == 1
    assert "Exception ignored" not in errors


def test_close_ends_the_calls_of_other_threads_though_the_server_hangs(server):
    backend = connect(server.url)
    queue = DelayedQueue(backend, "q")
    queue.stats()
    server.kill(signal.SIGSTOP)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(queue.stats) for _ in range(4)]
        time.sleep(0.2)
        backend.close()
        assert {untyped(call.exception(LONG_S)).code for call in calls} == {"CLOSED"}
    server.kill(signal.SIGCONT)
