"""The session cookie: it names the kind of its subject, and cookies from before it did still count."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from preferences.people.sign_in import SignedIn, Subject, SubjectKind
from preferences.services import Services
from preferences.web.account import session
from tests.support import add_contact


@pytest.fixture
def contact_id(services: Services) -> UUID:
    return add_contact(services)


@pytest.fixture
def visitor(app: Flask) -> FlaskClient:
    app.config["PREFERRED_URL_SCHEME"] = "https"
    return app.test_client()


def give_cookie(visitor: FlaskClient, subject: str, subject_id: UUID) -> None:
    """A session as it was stored before sessions had subjects, but for the name of the first key."""
    with visitor.session_transaction() as held:
        held.update({subject: str(subject_id), "since": datetime.now(UTC).timestamp(), "way": "code"})
        held["may_opt_in"] = True


def test_a_cookie_from_before_subjects_signs_in(visitor: FlaskClient, contact_id: UUID) -> None:
    give_cookie(visitor, "contact", contact_id)
    assert visitor.get("/account/").status_code == 200


def test_a_staff_session_opens_no_contact_page(visitor: FlaskClient, contact_id: UUID) -> None:
    give_cookie(visitor, "staff", contact_id)
    assert visitor.get("/account/").headers["Location"].startswith("/sign-in")


@pytest.mark.parametrize("kind", SubjectKind)
def test_a_session_keeps_its_subject(app: Flask, kind: SubjectKind) -> None:
    subject = Subject(kind, uuid4())
    with app.test_request_context():
        session.begin(SignedIn(Subject(SubjectKind.CONTACT, uuid4()), "link"))
        session.begin(SignedIn(subject, "code", may_opt_in=False))
        found = session.current_session()
        assert found is not None
        assert (found.subject, found.way, found.may_opt_in) == (subject, "code", False)
        session.end()
        assert session.current_session() is None
