from __future__ import annotations

import pytest
from django.core.management import call_command

from audit.sealing import seal
from tests.audit.test_log import execute, sealed, tampering, write

pytestmark = pytest.mark.django_db


def test_the_command_says_that_the_log_is_untouched(capsys: pytest.CaptureFixture[str]) -> None:
    sealed(6)
    write()
    call_command("verify_audit")
    assert capsys.readouterr().out == (
        "The audit log is untouched: 6 entries sealed, 1 not sealed yet; 3 checkpoints checked, no copies here to "
        "compare with.\n"
    )


def test_the_command_names_each_problem_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    victim = sealed(6)[2]
    with tampering():
        execute("UPDATE audit_auditentry SET actor_label = 'nobody' WHERE id = %s", victim.id)
    seal()
    with pytest.raises(SystemExit) as end:
        call_command("verify_audit")
    assert end.value.code == 1
    assert f"entry_altered: Entry {victim.id} " in capsys.readouterr().out
