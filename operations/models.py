"""What the jobs leave of themselves, for those who watch. Written by operations/jobs.py alone."""

from __future__ import annotations

from django.db import models


class JobRun(models.Model):
    """The last runs of one job, in whichever worker. seconds: how long the last one took that did not fail."""

    task = models.CharField(max_length=100, primary_key=True)
    succeeded_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    seconds = models.FloatField(default=0)

    def __str__(self) -> str:
        return self.task
