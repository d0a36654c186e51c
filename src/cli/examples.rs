//! The examples below each command's help and in its man page.

pub(super) const ALL: &str = "\
Examples:
  npk convert model.safetensors model.npk
  npk convert embeddings.parquet embeddings.npk -a vector
  npk convert run.npk run.h5 -c gzip:6
  npk inspect model.npk --tree

'npk COMMAND --help' explains a command with examples.";

pub(super) const CONVERT: &str = "\
Examples:
  npk convert model.safetensors model.npk                     one file into one store
  npk convert model.npk model.safetensors                     and back, bit for bit
  npk convert data.npz out.npk -a 'layer.*' -x '*.bias'       choose arrays
  npk convert d.csv d.npk --layout columns --dtype float32    types on the way
  npk convert runs/ stores/ -R --to npk --skip-existing       a batch that can be resumed
  npk convert part-*.parquet all.npk --concat                 many files, one after the other
  npk convert s3://bucket/m.safetensors m.npk                 from object storage
  npk convert hf://owner/name@v1/m.safetensors m.npk          from the Hugging Face Hub
  cat d.csv | npk convert - d.npk --from csv                  from a pipe

Exit codes: 0 done, 1 failed, 2 usage, 3 missing or unknown input, 4 refused (data would change), \
5 output exists, 6 remote, 7 corrupt input, 101 a bug in npk, 129/130/143 interrupted.";

pub(super) const EDIT: &str = "\
Examples:
  npk edit model.npk --drop 'optimizer.*' --rename head=lm_head
  npk edit model.npk --set-attribute version=2
  npk edit grown.npk --compact             rows that were deleted go, arrays become one piece

All changes of a call appear together, or none of them; --compact comes after them.";

pub(super) const LIST: &str = "\
Examples:
  npk list model.safetensors
  npk list -l model.npk --sort size        types, shapes and bytes, largest first
  npk list -a '*.bias' model.npk
  npk list --json data.npz | jq '.arrays[].shape'";

pub(super) const INSPECT: &str = "\
Examples:
  npk inspect model.safetensors
  npk inspect model.npk --tree
  npk inspect data.npk --stats -a 'x*'
  npk inspect d.npk -a x --head 5
  npk inspect m.safetensors --json | jq '.arrays[].name'
  npk inspect data.npk --heat -a 'x*'
  npk inspect model.safetensors --html report.html";

pub(super) const DIFF: &str = "\
Exit code 0: equal, 1: different.

Examples:
  npk diff model.safetensors model.npk
  npk diff a.npk b.npk --rtol 1e-5 --atol 1e-8
  npk diff base.safetensors tuned.safetensors --summary
  npk diff base.safetensors tuned.safetensors --headers

--summary: a and b are the values of the first and second file as float64, of the elements that are \
finite and not null in both. L2 is norm(b - a), relative is norm(b - a) / norm(a), largest is \
max(abs(b - a)), cosine is (a @ b) / (norm(a) * norm(b)). Changed are elements that --rtol, --atol \
and --equal-nan do not take for equal.";

pub(super) const VERIFY: &str = "\
Exit code 0: whole, 7: corrupt.

Examples:
  npk verify model.npk
  npk verify checkpoints/*.safetensors --json";

pub(super) const REPORT: &str = "\
Exit code 0: all shares are done and nothing failed, else 1.

Examples:
  npk report report/
  npk report s3://bucket/report --json | jq '.failures[].unit'";
