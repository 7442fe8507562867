"""Rows of a few tables, as the tests of the views put them into an empty warehouse."""


def put(connection, table, *rows):
    for row in rows:
        marks = ", ".join("?" * len(row))
        query = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"  # noqa: S608
        connection.execute(query, list(row.values()))


def seen(connection, query):
    return connection.execute(query).fetchall()


def evaluation(run_id, eval_id="final", **changes):
    plain = {"dataset": "mbpp", "protocol": "chat", "decoding": "greedy", "n": 10, "k": 4}
    return {"run_id": run_id, "eval_id": eval_id} | plain | changes


def result(run_id, task_id, passed, sample_index=0, eval_id="final", **changes):
    return {
        "run_id": run_id,
        "eval_id": eval_id,
        "task_id": task_id,
        "sample_index": sample_index,
        "passed": passed,
        "outcome": "passed" if passed else "wrong_answer",
        **changes,
    }


def rollout(run_id="r", step=1, group_index=0, member_index=0, **changes):
    plain = {
        "reward": 0.0,
        "correctness": 0.0,
        "format_score": 0.0,
        "n_passed": 0,
        "n_asserts": 3,
        "truncated": False,
        "n_completion_tokens": 10,
        "outcome": "wrong_answer",
        "feedback_used": False,
        "execution_id": f"r{step}.{group_index}.{member_index}",
    }
    place = {"step": step, "group_index": group_index, "member_index": member_index}
    return {"run_id": run_id} | place | plain | changes
