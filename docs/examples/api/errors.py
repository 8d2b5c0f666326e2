import asyncio

from promoter_core import (
    BackendError,
    ConfigError,
    DelayedQueue,
    JobError,
    JobExistsError,
    PermanentError,
    PluginError,
    PromoterError,
    TransientError,
    connect,
)


async def attempt(what):
    try:
        await what
    except (ConfigError, PluginError) as error:  # a mistake in the configuration
        print("set-up:", str(error)[:29])
    except JobExistsError as error:
        print("taken:", error.id)
    except JobError as error:  # one job is invalid
        print("job:", error)
    except TransientError as error:  # try again
        print("later:", error.code)
    except PermanentError as error:  # somebody has to fix it
        print("never:", error.code)


async def main():
    print(issubclass(BackendError, PromoterError), issubclass(TransientError, BackendError))
    async with connect("memory://") as backend:
        emails = DelayedQueue(backend, "emails")
        await emails.schedule("hello", delay=60, job_id="ada-1")
        await attempt(emails.schedule("hello", delay=60, job_id="ada-1", on_repeat="error"))
        await attempt(emails.schedule(object(), delay=60))
        await attempt(open_nowhere())
    await attempt(emails.stats())


async def open_nowhere():
    async with connect("nowhere://"):
        pass


asyncio.run(main())

# prints
# True True
# taken: ada-1
# job: data is an object: msgpack cannot pack it; convert it
# set-up: unknown URL scheme 'nowhere'
# later: CLOSED
