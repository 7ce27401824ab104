"""A simple content-addressed store in Flask, as written in half an hour."""

import hashlib
import os

from flask import Flask, Response, jsonify, request, send_from_directory

ROOT = os.environ["WSGI_STORE_ROOT"]

application = Flask(__name__)


@application.post("/")
def upload() -> Response:
    """Store the file of a form under its sha256."""
    data = request.files["file"].read()
    hash_ = hashlib.sha256(data).hexdigest()
    directory = os.path.join(ROOT, hash_[:2])
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, hash_), "wb") as file:
        file.write(data)
    return jsonify(hash=hash_)


@application.get("/<hash_>")
def download(hash_: str) -> Response:
    """Send a file."""
    return send_from_directory(os.path.join(os.path.abspath(ROOT), hash_[:2]), hash_)
