"""Makes certificates for one test run, signed by an authority that is forgotten with it.

    target/ci/venv/bin/python tests/interop/certificates.py NAME...

Prints {"authority": PEM, "issued": {NAME: {"key": PEM, "chain": PEM}}}: for tests that are not written in Python.
"""

import datetime
import json
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Authority:
    """Signs certificates that are good for an hour."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name.from_rfc4514_string("CN=authority")
        self.pem = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))

    def issue(self, host: str) -> tuple[bytes, bytes]:
        """A new private key, and the certificate that says it is `host`'s: a name, or a SPIFFE id."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.UniformResourceIdentifier(host) if host.startswith("spiffe:") else x509.DNSName(host)
        chain = self._sign(x509.Name.from_rfc4514_string("CN=test"), key, x509.SubjectAlternativeName([name]))
        plain = serialization.NoEncryption()
        return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain), chain

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def main() -> None:
    authority = Authority()
    issued = {}
    for host in sys.argv[1:]:
        key, chain = authority.issue(host)
        issued[host] = {"key": key.decode(), "chain": chain.decode()}
    print(json.dumps({"authority": authority.pem.decode(), "issued": issued}))


if __name__ == "__main__":
    main()
