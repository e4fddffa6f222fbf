"""What schemathesis cannot know of orderstream, and a description cannot say.

Webhooks are signed over their bytes: a request that carries the configured placeholder as its signature is to be a
genuine one. What schemathesis sends without a signature, or with one of its own, is left as it is and must be refused.
"""

import base64
import hashlib
import hmac
import itertools
import os

import requests
import schemathesis
from schemathesis import GenerationMode

SIGNATURE = "X-Shopify-Hmac-Sha256"
PLACEHOLDER = "signed-by-the-hook"
SECRET = os.environ["ORDERSTREAM_SHOPIFY_SECRETS"].encode()
EXAMPLE_ID = "1767225600000-0"

numbers = itertools.count()


def sign(request):
    """requests calls this with the finished request: the bytes are those that go out."""
    if request.headers.get(SIGNATURE) == PLACEHOLDER:
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        mac = hmac.new(SECRET, body, hashlib.sha256)
        request.headers[SIGNATURE] = base64.b64encode(mac.digest()).decode()
    return request


def newest(path):
    """The id of an entry that there is, in the place of the description's example."""
    url = os.environ["SCHEMA_ADMIN"] + path.removesuffix("/{id}").replace("/api/loaded", "/api/events")
    answer = requests.get(url, params={"count": 1}, headers={"Authorization": "Bearer " + os.environ["ORDERSTREAM_ADMIN_TOKEN"]})
    (found,) = [value for value in answer.json().values() if isinstance(value, list)]
    return found[0]["id"] if found else EXAMPLE_ID


def plain(value):
    """Whole numbers without a fraction, and decimals of few digits: JSON Schema cannot ask for either."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e15 else round(value % 1e9, 4)
    return value


def small(event):
    """Lines whose units and amounts stay within the bounds of the whole order, which a schema cannot add up."""
    for item in event.get("items") or []:
        item["qty"] = int(item["qty"]) % 1000
        if abs(float(item["price"])) >= 1e9:
            item["price"] = "1.50"
    return event


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.path == "/webhooks/orders":
        kwargs["auth"] = sign
    elif case.path_parameters and case.path_parameters.get("id") == EXAMPLE_ID:
        case.path_parameters["id"] = newest(case.path)
    elif case.path == "/health" and case.query.get("fresh") in (True, "true") and next(numbers) % 8:
        # It waits for a second.
        case.query["fresh"] = "false"
    allowed = case.meta and case.meta.generation.mode == GenerationMode.POSITIVE
    if allowed and isinstance(case.body, (dict, list)):
        case.body = plain(case.body)
        if case.path in ("/api/forget", "/api/forget/export") and case.body.get("shop") is None:
            # Without the shop, a customer that no order names is refused.
            case.body["shop"] = "example.myshopify.com"
        if case.path == "/events/batch":
            # An id that comes back with other content is rightly refused.
            case.body = [small(event) | {"event_id": f"event-{next(numbers)}"} for event in case.body]
    elif case.path == "/events/batch" and case.query.get("atomic") in (None, True, False, "true", "false"):
        # A bad event among good ones refuses the batch only where it is all or none.
        case.query["atomic"] = "true"
