"""Delayed mails behind a Django application in one file: `python django_app.py migrate`, `… runserver`."""

import json
import os
import sys
from functools import partial

import django
from django.conf import settings

settings.configure(
    SECRET_KEY=os.environ.get("SECRET_KEY", "for development"),
    DEBUG=True,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("DATABASE", "mails.sqlite3")}
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    PROMOTER_URL=os.environ.get("PROMOTER_URL", "redis://localhost:6379"),
)
django.setup()

from django.core.management import execute_from_command_line  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from django.views.decorators.http import require_http_methods  # noqa: E402

from promoter_core import JobOutcome  # noqa: E402
from promoter_core.sync import DelayedQueue, connect  # noqa: E402

mails = DelayedQueue(connect(settings.PROMOTER_URL), "welcomes")  # opened by the first call


class User(models.Model):
    email = models.EmailField(unique=True)

    class Meta:
        app_label = "mails"


def job_id(user_id: int) -> str:
    """Known before the job exists, so that this request can return it and another can cancel the job."""
    return f"welcome-{user_id}"


def schedule_welcome(user_id: int) -> None:
    mails.schedule({"user": user_id}, name="welcome", delay=300, job_id=job_id(user_id))


@csrf_exempt
@require_http_methods(["POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    email = json.loads(request.body)["email"]
    with transaction.atomic():
        user = User.objects.create(email=email)
        # After the commit, a consumer finds the user, and a sign-up that is rolled back leaves no job.
        transaction.on_commit(partial(schedule_welcome, user.pk))
        if email.endswith("@example.invalid"):
            transaction.set_rollback(True)
            return JsonResponse({"error": "no such domain"}, status=400)
    return JsonResponse({"user": user.pk, "job": job_id(user.pk)}, status=201)


@require_http_methods(["GET"])
def list_mails(request: HttpRequest) -> HttpResponse:
    page = mails.jobs(limit=50, after=request.GET.get("after", ""))
    waiting = [{"id": job.id, "user": job.data()["user"], "due": job.due} for job in page.jobs if not job.malformed]
    return JsonResponse({"mails": waiting, "next": page.cursor})


@csrf_exempt
@require_http_methods(["DELETE"])
def cancel(request: HttpRequest, id: str) -> HttpResponse:
    outcome = mails.cancel(id)
    return HttpResponse(status=204 if outcome is JobOutcome.REMOVED else 404)


urlpatterns = [path("sign-up", sign_up), path("mails", list_mails), path("mails/<str:id>", cancel)]


def create_tables() -> None:
    """Replaces migrations, which a project keeps in separate files."""
    with connection.schema_editor() as editor:
        editor.create_model(User)


if __name__ == "__main__":
    if sys.argv[1:] == ["migrate"]:
        create_tables()
    else:
        execute_from_command_line()
