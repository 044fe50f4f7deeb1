"""What a store's errors mean: wait and try again, or give up and say what to change."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from mixbench.experiments.errors import UserError
from mixbench.experiments.text import first_line
from mixbench.experiments.tracking import local_store
from mixbench.experiments.tracking.local_store import PASSWORD, TIMEOUT, TOKEN, USERNAME

_STATUS = re.compile(r"(?:failed with error code|too many) (\d{3})\b")
_PASSING = (408, 425, 429)


class StoreUnavailable(UserError):
    """The store is down, too slow or failing; waiting may help."""


class StoreRefused(UserError):
    """The store refuses access; waiting does not help."""


@contextlib.contextmanager
def in_words(uri: str) -> Iterator[None]:
    """The errors of the store at `uri` as one line each.

    StoreUnavailable where waiting may help, StoreRefused for 401 and 403, UserError for the rest.
    """
    local_store.configure()
    import requests
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        raise _in_words(error, uri) from error


def _in_words(error: Exception, uri: str) -> UserError:
    where = f"MLflow at {local_store.shown(uri)}"
    status = _status(error, uri)
    if status in (401, 403):
        return StoreRefused(f"{where} answers {status}: {_how_to_get_in(status, error)}")
    reason = local_store.without_secrets(_reason(error, status), uri)
    if status is None or status >= 500 or status in _PASSING:
        return StoreUnavailable(f"{where}: {reason}")
    return UserError(f"{where}: {reason}")


def _status(error: Exception, uri: str) -> int | None:
    """The HTTP status that the error stands for; None if there was no answer at all."""
    import requests
    from mlflow.exceptions import MlflowException

    if isinstance(error, requests.RequestException):
        return None if error.response is None else error.response.status_code
    status = _STATUS.search(str(error))
    if status:
        return int(status[1])
    if _cause(error) is not None:
        return None
    body = getattr(error, "json", None)
    if isinstance(body, dict) and "error_code" not in body:
        # A proxy in front of the server answered, and MLflow dropped its status.
        return _status_of_harmless_request(uri)
    return error.get_http_status_code() if isinstance(error, MlflowException) else None


def _status_of_harmless_request(uri: str) -> int | None:
    """The status of an answer to a request that changes nothing."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking._tracking_service.utils import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    endpoint = "/api/2.0/mlflow/experiments/search"
    try:
        answer = http_request(
            get_default_host_creds(uri), endpoint, "GET", params={"max_results": 1}
        )
    except MlflowException:
        return None
    return None if answer.ok else int(answer.status_code)


def _cause(error: Exception) -> Exception | None:
    """The error of the connection that MLflow wraps, if it is one."""
    import requests

    cause = error.__cause__ or error.__context__
    return cause if isinstance(cause, requests.RequestException) else None


def _reason(error: Exception, status: int | None) -> str:
    import requests

    cause = error if isinstance(error, requests.RequestException) else _cause(error)
    if isinstance(cause, requests.Timeout) or (cause is not None and "timed out" in str(cause)):
        return f"no answer within {os.environ[TIMEOUT]} s ({TIMEOUT})"
    if cause is not None and status is None:
        text = str(cause)
        for sign in ("Connection refused", "Name or service not known", "Connection reset"):
            if sign in text:
                return sign.lower()
        return first_line(cause)[:300]
    if status is not None and (cause is not None or _STATUS.search(str(error))):
        return f"answers {status}"
    return first_line(error)[:300]


def _how_to_get_in(status: int, error: Exception) -> str:
    token, name, password = (bool(os.environ.get(key)) for key in (TOKEN, USERNAME, PASSWORD))
    if status == 403 and "host header" in str(error).lower():
        return "it does not serve this host name; start it with --allowed-hosts"
    # In this order: MLflow sends the name and password, and the token only without them.
    if name and password:
        return f"it does not accept {USERNAME} and {PASSWORD}"
    if token:
        return f"it does not accept the token in {TOKEN}"
    return f"set {TOKEN}, or {USERNAME} and {PASSWORD}"
