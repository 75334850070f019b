"""An engine whose hooks may wait: methods of enhanced authentication, and somebody who decides."""

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from broker.access import (
    AccessRefusedError,
    Action,
    AskingPermissions,
    ConnectRequest,
    Continue,
    Permissions,
    Principal,
    Question,
    Success,
)
from broker.engine import AskMethod, Authenticate, Authorize, Effect, Engine
from broker.protocol.packets import ClientId
from broker.protocol.reason_codes import ReasonCode
from broker.session import Journal
from fakes import EngineDriver, FakePermissions

T = TypeVar("T")


class Riddle:
    """An authentication method: who answers `N` with `N + 1` is the user that `start` was told.

    The data of `start` is the user's name, that of the challenge `7`, that of success `welcome`. An empty
    name is let in without a question; `rounds` is how often the riddle is asked.
    """

    method = "RIDDLE"

    def __init__(self, rounds: int = 1) -> None:
        self.rounds = rounds
        self.requests: list[ConnectRequest] = []
        self.permissions: Callable[[], Permissions] = FakePermissions

    async def start(self, request: ConnectRequest, data: bytes | None) -> Continue | Success:
        self.requests.append(request)
        return await self._ask(request, (data or b"").decode(), self.rounds)

    async def _ask(self, request: ConnectRequest, user_name: str, rounds: int) -> Continue | Success:
        if not user_name or not rounds:
            return Success(self._principal(request, user_name or None), b"welcome")

        async def proceed(answer: bytes | None) -> Continue | Success:
            if answer != b"8":
                raise AccessRefusedError(ReasonCode.NOT_AUTHORIZED, "wrong answer")
            return await self._ask(request, user_name, rounds - 1)

        return Continue(b"7", proceed)

    def _principal(self, request: ConnectRequest, user_name: str | None) -> Principal:
        return Principal(
            tenant=request.tenant,
            client_id=request.client_id,
            user_name=user_name,
            certificate=None,
            thing_name=None,
            roles=frozenset(),
            permissions=self.permissions(),
        )


class Oracle:
    """Who decides: yes to everything but what is denied; does not know what is unknown."""

    def __init__(self) -> None:
        self.denied: set[tuple[str, str]] = set()
        self.unknown: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []

    async def authorize(self, principal: Principal, action: Action, topic: str) -> bool:
        question = (action.value, topic)
        self.asked.append(question)
        if question in self.unknown:
            raise LookupError
        return question not in self.denied


class HookDriver(EngineDriver):
    """Runs the hooks as the server does; with `is_holding_hooks` their answers wait for `answer_hooks`."""

    def __init__(self, *methods: Riddle, **options: Any) -> None:
        self.methods = methods
        self.is_holding_hooks = False
        self.held: deque[Effect] = deque()
        self.oracle: Oracle | None = None
        super().__init__(**options)

    def _new_engine(self) -> Engine:
        return Engine(
            self.limits,
            journal=None if self.store is None else Journal(),
            new_client_id=lambda: ClientId(f"assigned-{next(self._ids)}"),
            now=self.now,
            methods=self.methods,
        )

    def answer(self, effect: Authenticate) -> Principal | AccessRefusedError:
        answer = super().answer(effect)
        if self.oracle is None or isinstance(answer, AccessRefusedError):
            return answer
        return Principal(
            tenant=answer.tenant,
            client_id=answer.client_id,
            user_name=effect.request.user_name,
            certificate=None,
            thing_name=None,
            roles=frozenset(),
            permissions=AskingPermissions(answer.permissions, self.oracle),
        )

    def answer_hooks(self) -> None:
        """Give the answers that were held back."""
        self.is_holding_hooks = False
        while self.held:
            self._perform(self.held.popleft())
        self.settle()

    def _perform(self, effect: Effect) -> None:
        if not isinstance(effect, AskMethod | Authorize):
            super()._perform(effect)
        elif self.is_holding_hooks:
            self.held.append(effect)
        elif isinstance(effect, AskMethod):
            try:
                answer: Continue | Success | AccessRefusedError = run(effect.question())
            except AccessRefusedError as error:
                answer = error
            self.engine.method_answered(effect.connection, answer, self.now)
        else:
            self.engine.decided(effect, self._answers(effect), self.now)

    def _answers(self, effect: Authorize) -> dict[Question, bool]:
        permissions = effect.principal.permissions
        assert isinstance(permissions, AskingPermissions)
        answers = {}
        for question in effect.questions:
            asking = permissions.decision.authorize(
                effect.principal, question.action, question.topic.decode()
            )
            try:
                answers[question] = run(asking)
            except LookupError:
                break
        return answers


def run(awaitable: Awaitable[T]) -> T:
    """Return what a hook of this module answers; none of them really waits."""
    assert isinstance(awaitable, Coroutine)
    try:
        awaitable.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("the hook waits")
