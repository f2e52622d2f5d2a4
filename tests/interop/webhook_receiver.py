"""Receives webhooks on a free port and verifies them with the `standardwebhooks` package (PyPI), which we did not write.

    pip install standardwebhooks==1.1.0
    python webhook_receiver.py whsec_... [count]

Prints the port on the first line, then one line of JSON for each request:
{"verified": true, "id": "...", "timestamp": "...", "body": "...", "error": null}. Answers 204, or 401 to what is not verified.
Ends after `count` requests; without it, when it is killed.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook


class Receiver(BaseHTTPRequestHandler):
    webhook: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        error = None
        try:
            self.webhook.verify(body, dict(self.headers.items()))
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
        line = {
            "verified": error is None,
            "id": self.headers.get("webhook-id"),
            "timestamp": self.headers.get("webhook-timestamp"),
            "body": body.decode("utf-8", "replace"),
            "error": error,
        }
        print(json.dumps(line), flush=True)
        self.send_response(204 if error is None else 401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Standard error stays quiet."""


def main() -> None:
    Receiver.webhook = Webhook(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else None
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        print(server.server_port, flush=True)
        handled = 0
        while count is None or handled < count:
            server.handle_request()
            handled += 1


if __name__ == "__main__":
    main()
