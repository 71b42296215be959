"""Keys and certificates of one test cluster, and kubeconfig files of them."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support.certificates import Certificates

SERVICE_ADDRESS = "10.96.0.1"
"""First address of the Service range: what pods call the API server by."""


class ClusterCertificates(Certificates):
    """Certificates of a cluster's programs and users."""

    def issue_token_keys(self) -> None:
        """`service-accounts.key` and `.pub`: what signs and checks the tokens of ServiceAccounts."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.write_key("service-accounts", key)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.folder / "service-accounts.pub").write_bytes(public)

    def kubeconfig(self, name: str, server: str) -> Path:
        """A kubeconfig for the holder of `<name>.crt`, with everything embedded: it may be read from any folder."""
        path = self.folder.parent / f"{name}.kubeconfig"
        if path.exists():
            return path
        cluster = {"server": server, "certificate-authority-data": _embedded(self.ca)}
        user = {
            "client-certificate-data": _embedded(self.certificate(name)),
            "client-key-data": _embedded(self.key(name)),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "toril-test", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "toril-test", "context": {"cluster": "toril-test", "user": name}}],
            "current-context": "toril-test",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document))
        return path


def _embedded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
