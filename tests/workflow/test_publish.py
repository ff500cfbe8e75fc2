"""Copies of the tables on a storage, through Snakemake's plugin, against an S3 on the loopback."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer
from project import Project

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_tables_and_manifests_are_published(
    finished: Project, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="runs")
    config = (finished.folder / "workflow/configs/small.yaml").read_text()
    (finished.folder / "published.yaml").write_text(config + "publish: s3://runs/small\n")
    monkeypatch.setenv("SNAKEMAKE_STORAGE_S3_ENDPOINT_URL", endpoint)
    done = finished.snakemake("published", "--configfile", "published.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    keys = {item["Key"] for item in client.list_objects_v2(Bucket="runs")["Contents"]}
    assert {f"small/tables/{name}.parquet" for name in ("heads", "layers", "onsets")} <= keys
    assert "small/manifests/nano-olmo.parquet" in keys
    for key in keys:
        local = finished.folder / "results" / key
        assert client.get_object(Bucket="runs", Key=key)["Body"].read() == local.read_bytes()
    done = finished.snakemake("published", "--configfile", "published.yaml")
    assert "Nothing to be done" in done.stdout + done.stderr
