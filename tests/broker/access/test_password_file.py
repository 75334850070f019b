"""The password file, and what a client learns from a refusal."""

from contextlib import suppress

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from broker.access import (
    AccessRefusedError,
    PasswordFileError,
    PasswordUsers,
    check_user_name,
    is_password,
    parse_password_file,
    with_user,
)
from broker.access.password_file import USER_NAME_BYTES_MAXIMUM
from broker.protocol.reason_codes import ReasonCode

#: Cheap, so that tests do not wait; what a real one costs is the hasher's business.
HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASH = HASHER.hash("secret")
USER_NAMES = st.text(st.characters(codec="utf-8", exclude_characters=":"), min_size=1, max_size=20).filter(
    lambda name: name.isprintable() and name == name.strip() and not name.startswith("#")
)


def test_users_stand_in_lines_between_comments() -> None:
    text = f"# users\n\nalice:{HASH}\r\n  \nbö b:{HASH}\n# carol:{HASH}"
    assert parse_password_file(text, source="f") == {"alice": HASH, "bö b": HASH}
    assert parse_password_file("", source="f") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alice", "line 1: must be user:hash"),
        (f"a:{HASH}\nalice:secret", "line 2: not an Argon2id hash"),
        (f"alice: {HASH}", "line 1: not an Argon2id hash"),
        (f"alice:{HASH.replace('argon2id', 'argon2i')}", "line 1: not an Argon2id hash"),
        (f"alice:{HASH.replace('v=19', 'v=16')}", "line 1: not an Argon2id hash"),
        (f"alice:{HASH.rpartition('$')[0]}", "line 1: not an Argon2id hash"),
        (f"alice:{HASH}\0", "line 1: not an Argon2id hash"),
        (f"alice:{HASH[:-1]}é", "line 1: not an Argon2id hash"),
        (f"alice:{HASH.replace('m=8', 'm=٨')}", "line 1: not an Argon2id hash"),
        (f"alice:{HASH.replace('m=8', 'm=99999999')}", "line 1: a check would take more than"),
        (f"alice:{HASH.replace('t=1', 't=33')}", "line 1: a check would take more than"),
        (f"alice:{HASH.replace('p=1', 'p=65')}", "line 1: a check would take more than"),
        (f"alice:{HASH}\n\nalice:{HASH}", "line 3: the user stands in the file twice"),
        (f":{HASH}", "line 1: a user name has"),
        (f" alice:{HASH}", "line 1: a user name has"),
        (f"al\tice:{HASH}", "line 1: a user name has"),
        (f"{'é' * USER_NAME_BYTES_MAXIMUM}:{HASH}", "line 1: a user name has"),
        ("#" * 17_000_000, "a password file has at most"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_line_and_without_its_content(text: str, words: str) -> None:
    with pytest.raises(PasswordFileError) as caught:
        parse_password_file(text, source="users.txt")
    assert str(caught.value).startswith("users.txt: ")
    assert words in str(caught.value)
    assert "$argon2" not in str(caught.value)


def test_too_many_users_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.access.password_file.USERS_MAXIMUM", 2)
    text = "".join(f"user-{number}:{HASH}\n" for number in range(3))
    with pytest.raises(PasswordFileError, match="at most 2 users"):
        parse_password_file(text, source="f")


@pytest.mark.parametrize("name", ["", "a:b", "#a", "a ", "a\nb", "\ud800", "x" * 257])
def test_a_name_that_cannot_stand_in_the_file_is_refused(name: str) -> None:
    with pytest.raises(PasswordFileError):
        check_user_name(name, where="the name")


def test_a_change_leaves_every_other_line_alone() -> None:
    text = "# users\nalice:1\n\nalice2:2\n"
    assert with_user(text, "alice", "3") == "# users\nalice:3\n\nalice2:2\n"
    assert with_user(text, "alice", None) == "# users\n\nalice2:2\n"
    assert with_user(text, "bob", "4") == f"{text}bob:4\n"
    assert with_user(text, "bob", None) == text
    assert with_user("", "bob", "4") == "bob:4\n"


@given(st.lists(st.tuples(USER_NAMES, st.booleans())))
def test_the_file_holds_whoever_was_set_and_not_deleted(changes: list[tuple[str, bool]]) -> None:
    text, model = "# users\n", set[str]()
    for name, is_set in changes:
        text = with_user(text, name, HASH if is_set else None)
        model = model | {name} if is_set else model - {name}
        assert parse_password_file(text, source="f") == dict.fromkeys(model, HASH)


@given(st.text(max_size=200))
def test_any_text_is_a_password_file_or_told_why_not(text: str) -> None:
    with suppress(PasswordFileError):
        assert all(parse_password_file(text, source="f"))


def test_a_hash_fits_its_password_only() -> None:
    assert is_password(HASH, b"secret")
    assert not is_password(HASH, b"Secret")
    assert not is_password(HASH, b"")
    assert not is_password(HASH[:-1] + "!", b"secret")
    assert not is_password("$argon2id$v=19$m=1,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", b"secret")


class Verifier:
    """Checks at once, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []

    async def __call__(self, password_hash: str, password: bytes) -> bool:
        self.asked.append((password_hash, password))
        return is_password(password_hash, password)


async def test_the_right_password_is_accepted() -> None:
    users = PasswordUsers({"alice": HASH}, verify=Verifier())
    await users.check("alice", b"secret")


@pytest.mark.parametrize(
    ("name", "password"),
    [("alice", b"wrong"), ("bob", b"wrong"), ("bob", b"secret"), ("", b"secret"), ("Alice", b"secret")],
)
async def test_wrong_passwords_and_unknown_users_cannot_be_told_apart(name: str, password: bytes) -> None:
    verify = Verifier()
    users = PasswordUsers({"alice": HASH, "carol": HASHER.hash("other")}, verify=verify)
    with pytest.raises(AccessRefusedError) as caught:
        await users.check(name, password)
    assert caught.value.reason_code is ReasonCode.BAD_USER_NAME_OR_PASSWORD
    assert str(caught.value) == "the password is not the user's, or there is no such user"
    assert verify.asked == [(HASH, password)]


async def test_a_file_without_users_lets_nobody_in() -> None:
    with pytest.raises(AccessRefusedError):
        await PasswordUsers({}, verify=Verifier()).check("alice", b"secret")


async def test_reloaded_users_hold_for_those_who_come_later() -> None:
    users = PasswordUsers({"alice": HASH}, verify=Verifier())
    users.reload({"bob": HASH})
    await users.check("bob", b"secret")
    with pytest.raises(AccessRefusedError):
        await users.check("alice", b"secret")
