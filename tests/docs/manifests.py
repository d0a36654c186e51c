"""Checks the manifests of docs/many-machines.md: the Kubernetes Job against kubernetes.json, the AWS Batch job against botocore.

    python manifests.py PAGE SCHEMA
"""
import json
import re
import sys

import botocore.session
import botocore.validate
import yaml

page = open(sys.argv[1], encoding="utf-8").read()
schema = json.load(open(sys.argv[2]))
PLAIN = {"int": int, "str": str, "bool": bool, "object": object}


def check(value, kind, path):
    if kind.startswith("List["):
        assert isinstance(value, list), f"{path} is no list"
        for i, item in enumerate(value):
            check(item, kind[5:-1], f"{path}[{i}]")
    elif kind.startswith("Dict["):
        assert isinstance(value, dict), f"{path} is no map"
        for key, item in value.items():
            check(item, kind[5:-1].split(", ")[1], f"{path}.{key}")
    elif kind in PLAIN:
        wanted = PLAIN[kind]
        assert isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)), f"{path} is no {kind}"
    else:
        fields = schema["types"][kind]
        assert isinstance(value, dict), f"{path} is no {kind}"
        for key, item in value.items():
            assert key in fields, f"{path}.{key} is no field of {kind}"
            check(item, fields[key].split("(")[0] if fields[key].startswith("Dict[") else fields[key], f"{path}.{key}")
        for key in schema["required"].get(kind, []):
            assert key in value, f"{path} lacks {key}"


jobs = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.S)]
batches = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page, re.S)]
assert len(jobs) == 1 and len(batches) == 1, (jobs, batches)
job = jobs[0]
check(job, "V1Job", "job")
spec = job["spec"]
assert (job["apiVersion"], job["kind"], spec["completionMode"]) == ("batch/v1", "Job", "Indexed")
# Restarts within a pod would not count as tries of an index.
assert spec["template"]["spec"]["restartPolicy"] == "Never" and "backoffLimitPerIndex" in spec
(text,) = spec["template"]["spec"]["containers"][0]["args"]
assert f'"$JOB_COMPLETION_INDEX/{spec["completions"]}"' in text
for broken in ({"spec": {"completion": 1}}, {"spec": {"parallelism": "16", "template": {}}}, {"kind": 1}):
    try:
        check(dict(job, **broken), "V1Job", "job")
    except AssertionError:
        continue
    sys.exit(f"{broken} was not refused")

batch = batches[0]
model = botocore.session.get_session().get_service_model("batch").operation_model("SubmitJob").input_shape
report = botocore.validate.ParamValidator().validate(batch, model)
assert not report.has_errors(), report.generate_report()
assert f'$AWS_BATCH_JOB_ARRAY_INDEX/{batch["arrayProperties"]["size"]}' in batch["containerOverrides"]["command"][2]
for command in (text, batch["containerOverrides"]["command"][2]):
    print(" ".join(command.split()).removeprefix("exec "))
