"""What servers answer when they refuse, as reasons. The texts are those of Redis 6.2, 7.0, 7.4 and Valkey 9."""

from __future__ import annotations

import pytest

from toril import errors
from toril.engine.redis import replies
from toril.errors import RedisReason

TEXTS = {
    "NOAUTH Authentication required.": RedisReason.AUTH_FAILED,
    "WRONGPASS invalid username-password pair or user is disabled.": RedisReason.AUTH_FAILED,
    "NOPERM this user has no permissions to run the 'hset' command": RedisReason.AUTH_FAILED,
    "ERR The user executing the script can't run this command or subcommand script: b87641": RedisReason.AUTH_FAILED,
    "ERR ACL failure in script: User u has no permissions to run the 'hset' command": RedisReason.AUTH_FAILED,
    "ERR AUTH <password> called without any password configured for the default user.": RedisReason.AUTH_FAILED,
    "DENIED Redis is running in protected mode because protected mode is enabled": RedisReason.AUTH_FAILED,
    "NOREPLICAS Not enough good replicas to write.": RedisReason.NO_REPLICAS,
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist": RedisReason.DISK_FAILED,
    "MISCONF Errors writing to the AOF file: No space left on device": RedisReason.DISK_FAILED,
    "READONLY You can't write against a read only replica. script: 6dee": RedisReason.NOT_MASTER,
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": RedisReason.NOT_MASTER,
    "LOADING Redis is loading the dataset in memory": RedisReason.LOADING,
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": RedisReason.LOADING,
    "OOM command not allowed when used memory > 'maxmemory'. script: e4fe": RedisReason.OUT_OF_MEMORY,
    "ERR Error running script (call to f_e4): @user_script:1: -OOM command not allowed": RedisReason.OUT_OF_MEMORY,
    "MOVED 866 10.0.0.7:6379": RedisReason.IS_CLUSTER,
    "ASK 866 10.0.0.7:6379": RedisReason.IS_CLUSTER,
    "CROSSSLOT Keys in request don't hash to the same slot": RedisReason.IS_CLUSTER,
    "ERR SELECT is not allowed in cluster mode": RedisReason.IS_CLUSTER,
    "ERR Script attempted to access a non local key in a cluster node script: e4fe": RedisReason.IS_CLUSTER,
    "ERR Script attempted to access keys that do not hash to the same slot": RedisReason.IS_CLUSTER,
    "CLUSTERDOWN The cluster is down": RedisReason.CLUSTER_DOWN,
    "TRYAGAIN Multiple keys request during rehashing of slot": RedisReason.CLUSTER_DOWN,
    "ERR DB index is out of range": RedisReason.NO_SUCH_DATABASE,
    "ERR max number of clients reached": RedisReason.CONNECTION_REFUSED,
}


@pytest.mark.parametrize(("text", "reason"), TEXTS.items())
def test_a_refusal_by_the_servers_state_is_unavailability_with_its_reason(text: str, reason: RedisReason) -> None:
    error = replies.from_server(replies.ServerReply(text), "r:1/0")
    assert isinstance(error, errors.RedisUnavailableError)
    assert error.reason is reason
    assert text[:60] in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "ERR wrong number of arguments for 'hset' command",
        "ERR unknown command 'MOVEDX', with args beginning with: ",
        "BUSYGROUP Consumer Group name already exists",
        "ERR value is not an integer or out of range",
    ],
)
def test_other_errors_have_no_reason_of_the_server(text: str) -> None:
    error = replies.from_server(replies.ServerReply(text), "r:1/0")
    assert type(error) is errors.RedisError
    assert error.reason is RedisReason.PROTOCOL_ERROR


def test_a_cluster_is_told_as_one_with_what_to_do() -> None:
    error = replies.from_server(replies.ServerReply("MOVED 866 10.0.0.7:6379"), "r:1/0")
    assert "is a Cluster" in str(error)
    assert "{bull}" in str(error)
    assert "10.0.0.7:6379" in str(error)


def test_a_wrong_type_names_no_word_of_the_server() -> None:
    error = replies.from_server(replies.ServerReply("WRONGTYPE Operation against a key"), "r:1/0")
    assert isinstance(error, errors.WrongKeyTypeError)
