# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_npk_global_optspecs
    string join \n h/help V/version
end

function __fish_npk_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_npk_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_npk_using_subcommand
    set -l cmd (__fish_npk_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c npk -n "__fish_npk_needs_command" -s h -l help -d 'Print help'
complete -c npk -n "__fish_npk_needs_command" -s V -l version -d 'Print version'
complete -c npk -n "__fish_npk_needs_command" -f -a "convert" -d 'Convert files, directories, object storage, or standard input'
complete -c npk -n "__fish_npk_needs_command" -f -a "list" -d 'List array names, one per line'
complete -c npk -n "__fish_npk_needs_command" -f -a "ls" -d 'List array names, one per line'
complete -c npk -n "__fish_npk_needs_command" -f -a "inspect" -d 'Show what is in a file: format, arrays, types, shapes, metadata, values'
complete -c npk -n "__fish_npk_needs_command" -f -a "diff" -d 'Compare two files of any formats'
complete -c npk -n "__fish_npk_needs_command" -f -a "verify" -d 'Check that files are whole: headers, sizes, checksums, every chunk'
complete -c npk -n "__fish_npk_needs_command" -f -a "edit" -d 'Change a .npk store: drop and rename arrays, set attributes, leave out deleted rows'
complete -c npk -n "__fish_npk_needs_command" -f -a "report" -d 'Show what the shares of a batch have come to: a table of convert\'s --report'
complete -c npk -n "__fish_npk_needs_command" -f -a "formats" -d 'List the formats'
complete -c npk -n "__fish_npk_needs_command" -f -a "completions" -d 'Print a completion script'
complete -c npk -n "__fish_npk_needs_command" -f -a "man" -d 'Write the man pages into a directory (or print the main one)'
complete -c npk -n "__fish_npk_needs_command" -f -a "generate" -d 'Write completions and man pages into the project\'s folders'
complete -c npk -n "__fish_npk_using_subcommand convert" -s o -l output -d 'The destination, instead of the last argument' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -s t -l to -d 'Output format (default, or auto: by the destination\'s name; numpy: npy if it is named so, else npz)' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l if-exists -d 'What to do if the output exists (default: error)' -r -f -a "error\t'Stop with exit code 5'
overwrite\t'Replace it'
skip\t'Leave it alone if it is whole'
update\t'Replace it if a source is newer'
merge\t'Add the arrays to the store'"
complete -c npk -n "__fish_npk_using_subcommand convert" -s a -l array -l key -l tensor -l dataset -l columns -d 'Only these arrays: names or patterns (\'*\' matches anything), separated by commas, repeatable' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -s x -l exclude -d 'Leave these arrays out' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l rows -d 'Only these rows of every array, as in Python: START:STOP[:STEP]' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -s T -l files-from -d 'Read source names from a file, a URL or - for stdin: one per line, after a tab its size and ETag if known; or the manifest.json of an S3 Inventory' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l name -l array-name -d 'The name of the one resulting array (or of each source\'s, with --concat); of a table that becomes columns: NAME/a, NAME/b' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l strip-prefix -d 'Remove this from the front of names' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l rename -d 'Rename an array' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l rename-re -d 'Rename by regular expression; $1 is the first group' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l add-prefix -d 'Put this in front of names' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l dtype -d 'Cast arrays, or (NAME=timestamp[us]) times to another unit; must be exact unless --lossy is given. With --from raw, without PATTERN: what the file holds, as numpy spells it (>f4)' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l dequantize -d 'Make floats of quantised values: of GGUF blocks float32, of float8, MXFP4 and NVFP4 weights bfloat16 (times the scales beside them), unless a type is given' -r -f -a "bfloat16\t'bfloat16, rounded to the nearest'
float16\t'float16, rounded to the nearest; refused where a value is past its range'
float32\t'float32'"
complete -c npk -n "__fish_npk_using_subcommand convert" -l bf16 -d 'How to store bfloat16 if the output lacks it' -r -f -a "float32\t'As float32, which is exact'
bits\t'As its raw bits, in uint16'"
complete -c npk -n "__fish_npk_using_subcommand convert" -l fp8 -d 'How to store float8 if the output lacks it' -r -f -a "float16\t'As float16, which is exact'
bits\t'As its raw bits, in uint8'"
complete -c npk -n "__fish_npk_using_subcommand convert" -l nulls -d 'How to store nulls if the output lacks them: mask (default); nan, fill=VALUE and error hold for any output, nan and fill=VALUE not within lists, structs and maps' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l strings -d 'How to store text if the output lacks it (default: codes)' -r -f -a "codes\t'As int32 codes, with the categories in the side file'
offsets\t'As two arrays, NAME.offsets and NAME.bytes'
skip\t'Leave it out, with a note'
error\t'Refuse it'"
complete -c npk -n "__fish_npk_using_subcommand convert" -l ragged -d 'How to store lists of different lengths, and structs and maps, if the output lacks them (default: offsets)' -r -f -a "error\t'Refuse them'
offsets\t'As arrays of their own: NAME.offsets, NAME.values, NAME.field, NAME.keys, NAME.valid'"
complete -c npk -n "__fish_npk_using_subcommand convert" -l nested -d 'How to write lists, structs and maps into text tables (refused by default)' -r -f -a "json\t'As JSON text'"
complete -c npk -n "__fish_npk_using_subcommand convert" -l layout -d 'How a table becomes arrays: one matrix, or one array per column' -r -f -a "auto\t'A matrix if all columns have one numeric type and no nulls, else columns'
columns\t'One array per column'
matrix\t'One array of all columns'"
complete -c npk -n "__fish_npk_using_subcommand convert" -l float-format -d 'printf-like format of floats in text outputs, as in numpy.savetxt' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -s c -l compression -d 'Compression of the output' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l chunk-shape -d 'Chunk shape (HDF5, Zarr), such as 1000,128' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l shard-shape -d 'Shard shape (Zarr v3)' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l inline-below -d 'Arrays that cannot be referred to are kept in a store of references where they are no larger' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l row-group-size -d 'Rows per row group (Parquet)' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l zarr-format -d 'Zarr version' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l max-shard-size -d 'Split checkpoints into files of at most this size' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l metadata -d 'Add metadata to the output' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l shard -d 'Convert only share I of N (from 0) of a batch: each output belongs to one share, by its name; of a single Zarr output, a share of its rows' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l report -d 'Write a line of JSON for each output into a directory or below a URL, a file for each share; without --shard, compare what shares have written there with what should be' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l from -d 'Input format (default, or auto: by the first bytes, else the file name; numpy: npy or npz)' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -s g -l group -d 'Only this group of the tree (HDF5, Zarr), or the names below PATH/ or PATH' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l header -d 'Whether the first row is a header' -r -f -a "auto\t'If not all its cells are numbers or empty'
yes\t'It is'
no\t'It is not'"
complete -c npk -n "__fish_npk_using_subcommand convert" -l column-names -d 'Column names, instead of the header\'s' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -s d -l delimiter -d 'Field separator of CSV and TXT (\'\\t\' for a tab)' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l skip-rows -l skip-header -d 'Skip this many lines at the start of a text file' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l max-rows -d 'Read at most this many rows of a text file' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l comment -d 'Lines of a text file that begin with this are comments' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l quote -d 'What quotes cells of CSV: one character, or none to read quotes as plain characters [default: "]' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l null-values -d 'Cells that mean null, separated by commas' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l decimal -d 'Decimal sign of text files' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l shape -d 'Shape of a raw file, such as 1000,28,28; one dimension may be -1 (default: all in one)' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l offset -d 'Bytes to leave out at the start of a raw file' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l order -d 'Which index runs fastest in a raw file (default: C)' -r -f -a "C\t'The last index runs fastest'
F\t'The first index runs fastest, as in Fortran and MATLAB'"
complete -c npk -n "__fish_npk_using_subcommand convert" -l on-duplicate -d 'What to do with two arrays of the same name' -r -f -a "error\t'Refuse them'
rename\t'Rename the later ones to NAME_1, NAME_2, …'
first\t'Keep the first'
last\t'Keep the last'"
complete -c npk -n "__fish_npk_using_subcommand convert" -s j -l jobs -d 'Worker threads (default: one per core); no more than 4, and one for each 8 MiB of --memory-limit' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -s m -l memory-limit -d 'Memory for data in flight, over all files; at least 1MiB' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l profile -d 'AWS profile' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l region -d 'AWS region' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l endpoint-url -d 'Address of an S3-compatible service' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l ca-bundle -d 'PEM file with the certificate authorities to trust' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l addressing -d 'Where requests name the bucket' -r -f -a "path\t'https://HOST/BUCKET/KEY'
virtual\t'https://BUCKET.HOST/KEY'"
complete -c npk -n "__fish_npk_using_subcommand convert" -l retries -d 'How often a failed request is tried again' -r
complete -c npk -n "__fish_npk_using_subcommand convert" -l color -d 'When to use colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c npk -n "__fish_npk_using_subcommand convert" -s f -l force -l overwrite -d 'Replace an existing output'
complete -c npk -n "__fish_npk_using_subcommand convert" -l skip-existing -d 'Skip outputs that exist and are whole (same as --if-exists skip)'
complete -c npk -n "__fish_npk_using_subcommand convert" -s u -l update -d 'Convert only if a source is newer than the output (same as --if-exists update)'
complete -c npk -n "__fish_npk_using_subcommand convert" -l append -d 'Append rows to the arrays of an existing store'
complete -c npk -n "__fish_npk_using_subcommand convert" -l sync -d 'Sync new outputs to the disk'
complete -c npk -n "__fish_npk_using_subcommand convert" -l concat -d 'Join arrays of the same name over all sources, row after row; folders named key=value become columns'
complete -c npk -n "__fish_npk_using_subcommand convert" -l prefix-by-file -d 'Put each source\'s name in front of its arrays\' names'
complete -c npk -n "__fish_npk_using_subcommand convert" -s 0 -d 'Names in --files-from end with a zero byte'
complete -c npk -n "__fish_npk_using_subcommand convert" -s R -l recursive -d 'Take directories as sources, with everything below them'
complete -c npk -n "__fish_npk_using_subcommand convert" -l ignore-table-log -d 'Take the files of Delta, Iceberg and Hudi tables as they are, with rows that the table has removed'
complete -c npk -n "__fish_npk_using_subcommand convert" -l lossy -d 'Let --dtype round (never past the type\'s range)'
complete -c npk -n "__fish_npk_using_subcommand convert" -l skip-unsupported -d 'Leave out, with a note, arrays that cannot be read or written'
complete -c npk -n "__fish_npk_using_subcommand convert" -l virtual -d 'Write a Zarr store of references: the bytes stay where they are. Into a directory (Parquet), or with a name that ends in .json, or --to kerchunk, into one JSON file'
complete -c npk -n "__fish_npk_using_subcommand convert" -l no-metadata -d 'Write the arrays only, without metadata'
complete -c npk -n "__fish_npk_using_subcommand convert" -l single -d 'Write a .pt that is the bare tensor'
complete -c npk -n "__fish_npk_using_subcommand convert" -l finish -d 'Complete a Zarr output whose shares are all written'
complete -c npk -n "__fish_npk_using_subcommand convert" -l certify -d 'Put the checksums of every array on both sides into the report'
complete -c npk -n "__fish_npk_using_subcommand convert" -s n -l dry-run -d 'Show what would be done'
complete -c npk -n "__fish_npk_using_subcommand convert" -l verify -d 'Read the output again and compare'
complete -c npk -n "__fish_npk_using_subcommand convert" -l fail-fast -d 'Stop a batch at the first error'
complete -c npk -n "__fish_npk_using_subcommand convert" -l trim -d 'Leave out blanks around cells and column names of a text file, outside of quotes'
complete -c npk -n "__fish_npk_using_subcommand convert" -l follow-external -d 'Also read files outside of its folder that an HDF5 file names (virtual sources, external links, raw data)'
complete -c npk -n "__fish_npk_using_subcommand convert" -l no-sign-request -l anon -d 'Public data: do not sign requests'
complete -c npk -n "__fish_npk_using_subcommand convert" -l no-verify-ssl -d 'Do not verify TLS certificates'
complete -c npk -n "__fish_npk_using_subcommand convert" -l request-payer -d 'Pay for requests to a requester-pays bucket'
complete -c npk -n "__fish_npk_using_subcommand convert" -s q -l quiet -d 'Errors only'
complete -c npk -n "__fish_npk_using_subcommand convert" -s v -l verbose -d 'More messages; twice for still more'
complete -c npk -n "__fish_npk_using_subcommand convert" -l json -d 'JSON lines on stdout: one per file, then a summary'
complete -c npk -n "__fish_npk_using_subcommand convert" -l no-progress -d 'No progress bar'
complete -c npk -n "__fish_npk_using_subcommand convert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c npk -n "__fish_npk_using_subcommand convert" -s V -l version -d 'Print version'
complete -c npk -n "__fish_npk_using_subcommand list" -l sort -d 'The order of the names' -r -f -a "file\t'As in the file'
name\t'By name, layer.2 before layer.10'
size\t'By size, largest first'"
complete -c npk -n "__fish_npk_using_subcommand list" -s a -l array -l key -l tensor -l dataset -l columns -d 'Only these arrays: names or patterns (\'*\' matches anything), separated by commas, repeatable' -r
complete -c npk -n "__fish_npk_using_subcommand list" -s x -l exclude -d 'Leave these arrays out' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l from -d 'Input format (default, or auto: by the first bytes, else the file name; numpy: npy or npz)' -r
complete -c npk -n "__fish_npk_using_subcommand list" -s g -l group -d 'Only this group of the tree (HDF5, Zarr), or the names below PATH/ or PATH' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l header -d 'Whether the first row is a header' -r -f -a "auto\t'If not all its cells are numbers or empty'
yes\t'It is'
no\t'It is not'"
complete -c npk -n "__fish_npk_using_subcommand list" -l column-names -d 'Column names, instead of the header\'s' -r
complete -c npk -n "__fish_npk_using_subcommand list" -s d -l delimiter -d 'Field separator of CSV and TXT (\'\\t\' for a tab)' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l skip-rows -l skip-header -d 'Skip this many lines at the start of a text file' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l max-rows -d 'Read at most this many rows of a text file' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l comment -d 'Lines of a text file that begin with this are comments' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l quote -d 'What quotes cells of CSV: one character, or none to read quotes as plain characters [default: "]' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l null-values -d 'Cells that mean null, separated by commas' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l decimal -d 'Decimal sign of text files' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l shape -d 'Shape of a raw file, such as 1000,28,28; one dimension may be -1 (default: all in one)' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l offset -d 'Bytes to leave out at the start of a raw file' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l order -d 'Which index runs fastest in a raw file (default: C)' -r -f -a "C\t'The last index runs fastest'
F\t'The first index runs fastest, as in Fortran and MATLAB'"
complete -c npk -n "__fish_npk_using_subcommand list" -l on-duplicate -d 'What to do with two arrays of the same name' -r -f -a "error\t'Refuse them'
rename\t'Rename the later ones to NAME_1, NAME_2, …'
first\t'Keep the first'
last\t'Keep the last'"
complete -c npk -n "__fish_npk_using_subcommand list" -s j -l jobs -d 'Worker threads (default: one per core); no more than 4, and one for each 8 MiB of --memory-limit' -r
complete -c npk -n "__fish_npk_using_subcommand list" -s m -l memory-limit -d 'Memory for data in flight, over all files; at least 1MiB' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l profile -d 'AWS profile' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l region -d 'AWS region' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l endpoint-url -d 'Address of an S3-compatible service' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l ca-bundle -d 'PEM file with the certificate authorities to trust' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l addressing -d 'Where requests name the bucket' -r -f -a "path\t'https://HOST/BUCKET/KEY'
virtual\t'https://BUCKET.HOST/KEY'"
complete -c npk -n "__fish_npk_using_subcommand list" -l retries -d 'How often a failed request is tried again' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l dtype -d 'Type of the elements of a raw file (--from raw), as numpy spells it: float32, >i2, S5' -r
complete -c npk -n "__fish_npk_using_subcommand list" -l color -d 'When to use colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c npk -n "__fish_npk_using_subcommand list" -s l -l long -d 'Print types, shapes and bytes too, separated by tabs'
complete -c npk -n "__fish_npk_using_subcommand list" -s 0 -d 'Raw names, each followed by a zero byte'
complete -c npk -n "__fish_npk_using_subcommand list" -l json -d 'JSON on stdout'
complete -c npk -n "__fish_npk_using_subcommand list" -l trim -d 'Leave out blanks around cells and column names of a text file, outside of quotes'
complete -c npk -n "__fish_npk_using_subcommand list" -l follow-external -d 'Also read files outside of its folder that an HDF5 file names (virtual sources, external links, raw data)'
complete -c npk -n "__fish_npk_using_subcommand list" -l no-sign-request -l anon -d 'Public data: do not sign requests'
complete -c npk -n "__fish_npk_using_subcommand list" -l no-verify-ssl -d 'Do not verify TLS certificates'
complete -c npk -n "__fish_npk_using_subcommand list" -l request-payer -d 'Pay for requests to a requester-pays bucket'
complete -c npk -n "__fish_npk_using_subcommand list" -s q -l quiet -d 'Errors only'
complete -c npk -n "__fish_npk_using_subcommand list" -s v -l verbose -d 'More messages; twice for still more'
complete -c npk -n "__fish_npk_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c npk -n "__fish_npk_using_subcommand list" -s V -l version -d 'Print version'
complete -c npk -n "__fish_npk_using_subcommand ls" -l sort -d 'The order of the names' -r -f -a "file\t'As in the file'
name\t'By name, layer.2 before layer.10'
size\t'By size, largest first'"
complete -c npk -n "__fish_npk_using_subcommand ls" -s a -l array -l key -l tensor -l dataset -l columns -d 'Only these arrays: names or patterns (\'*\' matches anything), separated by commas, repeatable' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -s x -l exclude -d 'Leave these arrays out' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l from -d 'Input format (default, or auto: by the first bytes, else the file name; numpy: npy or npz)' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -s g -l group -d 'Only this group of the tree (HDF5, Zarr), or the names below PATH/ or PATH' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l header -d 'Whether the first row is a header' -r -f -a "auto\t'If not all its cells are numbers or empty'
yes\t'It is'
no\t'It is not'"
complete -c npk -n "__fish_npk_using_subcommand ls" -l column-names -d 'Column names, instead of the header\'s' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -s d -l delimiter -d 'Field separator of CSV and TXT (\'\\t\' for a tab)' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l skip-rows -l skip-header -d 'Skip this many lines at the start of a text file' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l max-rows -d 'Read at most this many rows of a text file' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l comment -d 'Lines of a text file that begin with this are comments' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l quote -d 'What quotes cells of CSV: one character, or none to read quotes as plain characters [default: "]' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l null-values -d 'Cells that mean null, separated by commas' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l decimal -d 'Decimal sign of text files' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l shape -d 'Shape of a raw file, such as 1000,28,28; one dimension may be -1 (default: all in one)' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l offset -d 'Bytes to leave out at the start of a raw file' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l order -d 'Which index runs fastest in a raw file (default: C)' -r -f -a "C\t'The last index runs fastest'
F\t'The first index runs fastest, as in Fortran and MATLAB'"
complete -c npk -n "__fish_npk_using_subcommand ls" -l on-duplicate -d 'What to do with two arrays of the same name' -r -f -a "error\t'Refuse them'
rename\t'Rename the later ones to NAME_1, NAME_2, …'
first\t'Keep the first'
last\t'Keep the last'"
complete -c npk -n "__fish_npk_using_subcommand ls" -s j -l jobs -d 'Worker threads (default: one per core); no more than 4, and one for each 8 MiB of --memory-limit' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -s m -l memory-limit -d 'Memory for data in flight, over all files; at least 1MiB' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l profile -d 'AWS profile' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l region -d 'AWS region' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l endpoint-url -d 'Address of an S3-compatible service' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l ca-bundle -d 'PEM file with the certificate authorities to trust' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l addressing -d 'Where requests name the bucket' -r -f -a "path\t'https://HOST/BUCKET/KEY'
virtual\t'https://BUCKET.HOST/KEY'"
complete -c npk -n "__fish_npk_using_subcommand ls" -l retries -d 'How often a failed request is tried again' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l dtype -d 'Type of the elements of a raw file (--from raw), as numpy spells it: float32, >i2, S5' -r
complete -c npk -n "__fish_npk_using_subcommand ls" -l color -d 'When to use colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c npk -n "__fish_npk_using_subcommand ls" -s l -l long -d 'Print types, shapes and bytes too, separated by tabs'
complete -c npk -n "__fish_npk_using_subcommand ls" -s 0 -d 'Raw names, each followed by a zero byte'
complete -c npk -n "__fish_npk_using_subcommand ls" -l json -d 'JSON on stdout'
complete -c npk -n "__fish_npk_using_subcommand ls" -l trim -d 'Leave out blanks around cells and column names of a text file, outside of quotes'
complete -c npk -n "__fish_npk_using_subcommand ls" -l follow-external -d 'Also read files outside of its folder that an HDF5 file names (virtual sources, external links, raw data)'
complete -c npk -n "__fish_npk_using_subcommand ls" -l no-sign-request -l anon -d 'Public data: do not sign requests'
complete -c npk -n "__fish_npk_using_subcommand ls" -l no-verify-ssl -d 'Do not verify TLS certificates'
complete -c npk -n "__fish_npk_using_subcommand ls" -l request-payer -d 'Pay for requests to a requester-pays bucket'
complete -c npk -n "__fish_npk_using_subcommand ls" -s q -l quiet -d 'Errors only'
complete -c npk -n "__fish_npk_using_subcommand ls" -s v -l verbose -d 'More messages; twice for still more'
complete -c npk -n "__fish_npk_using_subcommand ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c npk -n "__fish_npk_using_subcommand ls" -s V -l version -d 'Print version'
complete -c npk -n "__fish_npk_using_subcommand inspect" -l show-metadata -d 'Show all metadata, or one key of it' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l head -d 'Show the first rows of the arrays' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l tail -d 'Show the last rows of the arrays' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l slice -d 'Show a part of the arrays, as in numpy: "0:5,:"' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l html -d 'Write a page that stands alone instead, at most 2 MB: treemap, totals, and of each array statistics, a histogram and a heat map' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -s a -l array -l key -l tensor -l dataset -l columns -d 'Only these arrays: names or patterns (\'*\' matches anything), separated by commas, repeatable' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -s x -l exclude -d 'Leave these arrays out' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l from -d 'Input format (default, or auto: by the first bytes, else the file name; numpy: npy or npz)' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -s g -l group -d 'Only this group of the tree (HDF5, Zarr), or the names below PATH/ or PATH' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l header -d 'Whether the first row is a header' -r -f -a "auto\t'If not all its cells are numbers or empty'
yes\t'It is'
no\t'It is not'"
complete -c npk -n "__fish_npk_using_subcommand inspect" -l column-names -d 'Column names, instead of the header\'s' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -s d -l delimiter -d 'Field separator of CSV and TXT (\'\\t\' for a tab)' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l skip-rows -l skip-header -d 'Skip this many lines at the start of a text file' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l max-rows -d 'Read at most this many rows of a text file' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l comment -d 'Lines of a text file that begin with this are comments' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l quote -d 'What quotes cells of CSV: one character, or none to read quotes as plain characters [default: "]' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l null-values -d 'Cells that mean null, separated by commas' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l decimal -d 'Decimal sign of text files' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l shape -d 'Shape of a raw file, such as 1000,28,28; one dimension may be -1 (default: all in one)' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l offset -d 'Bytes to leave out at the start of a raw file' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l order -d 'Which index runs fastest in a raw file (default: C)' -r -f -a "C\t'The last index runs fastest'
F\t'The first index runs fastest, as in Fortran and MATLAB'"
complete -c npk -n "__fish_npk_using_subcommand inspect" -l on-duplicate -d 'What to do with two arrays of the same name' -r -f -a "error\t'Refuse them'
rename\t'Rename the later ones to NAME_1, NAME_2, …'
first\t'Keep the first'
last\t'Keep the last'"
complete -c npk -n "__fish_npk_using_subcommand inspect" -s j -l jobs -d 'Worker threads (default: one per core); no more than 4, and one for each 8 MiB of --memory-limit' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -s m -l memory-limit -d 'Memory for data in flight, over all files; at least 1MiB' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l profile -d 'AWS profile' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l region -d 'AWS region' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l endpoint-url -d 'Address of an S3-compatible service' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l ca-bundle -d 'PEM file with the certificate authorities to trust' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l addressing -d 'Where requests name the bucket' -r -f -a "path\t'https://HOST/BUCKET/KEY'
virtual\t'https://BUCKET.HOST/KEY'"
complete -c npk -n "__fish_npk_using_subcommand inspect" -l retries -d 'How often a failed request is tried again' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l dtype -d 'Type of the elements of a raw file (--from raw), as numpy spells it: float32, >i2, S5' -r
complete -c npk -n "__fish_npk_using_subcommand inspect" -l color -d 'When to use colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c npk -n "__fish_npk_using_subcommand inspect" -l tree -d 'Show the names as a tree, with repeated layers folded'
complete -c npk -n "__fish_npk_using_subcommand inspect" -l stats -d 'Show count, nulls, NaN, infinities, zeros, min, max, mean, standard deviation'
complete -c npk -n "__fish_npk_using_subcommand inspect" -l hist -d 'Show a small histogram beside each array'
complete -c npk -n "__fish_npk_using_subcommand inspect" -l heat -d 'Draw heat maps: the means of the blocks of each array, its rows down, all elements of a row side by side; --slice chooses a part'
complete -c npk -n "__fish_npk_using_subcommand inspect" -l checksum -d 'Show the SHA-256 of the logical values, the same in every format'
complete -c npk -n "__fish_npk_using_subcommand inspect" -s f -l force -d 'Replace an existing page'
complete -c npk -n "__fish_npk_using_subcommand inspect" -l json -d 'JSON on stdout'
complete -c npk -n "__fish_npk_using_subcommand inspect" -l trim -d 'Leave out blanks around cells and column names of a text file, outside of quotes'
complete -c npk -n "__fish_npk_using_subcommand inspect" -l follow-external -d 'Also read files outside of its folder that an HDF5 file names (virtual sources, external links, raw data)'
complete -c npk -n "__fish_npk_using_subcommand inspect" -l no-sign-request -l anon -d 'Public data: do not sign requests'
complete -c npk -n "__fish_npk_using_subcommand inspect" -l no-verify-ssl -d 'Do not verify TLS certificates'
complete -c npk -n "__fish_npk_using_subcommand inspect" -l request-payer -d 'Pay for requests to a requester-pays bucket'
complete -c npk -n "__fish_npk_using_subcommand inspect" -s q -l quiet -d 'Errors only'
complete -c npk -n "__fish_npk_using_subcommand inspect" -s v -l verbose -d 'More messages; twice for still more'
complete -c npk -n "__fish_npk_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c npk -n "__fish_npk_using_subcommand inspect" -s V -l version -d 'Print version'
complete -c npk -n "__fish_npk_using_subcommand diff" -l rtol -d 'Relative tolerance' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l atol -d 'Absolute tolerance' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l map -d 'Rename the arrays of A by a regular expression before they are compared; $1 is the first group' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l html -d 'Write a page that stands alone instead, at most 2 MB: what differs, and the figures of --summary' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -s a -l array -l key -l tensor -l dataset -l columns -d 'Only these arrays: names or patterns (\'*\' matches anything), separated by commas, repeatable' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -s x -l exclude -d 'Leave these arrays out' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l from -d 'Input format (default, or auto: by the first bytes, else the file name; numpy: npy or npz)' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -s g -l group -d 'Only this group of the tree (HDF5, Zarr), or the names below PATH/ or PATH' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l header -d 'Whether the first row is a header' -r -f -a "auto\t'If not all its cells are numbers or empty'
yes\t'It is'
no\t'It is not'"
complete -c npk -n "__fish_npk_using_subcommand diff" -l column-names -d 'Column names, instead of the header\'s' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -s d -l delimiter -d 'Field separator of CSV and TXT (\'\\t\' for a tab)' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l skip-rows -l skip-header -d 'Skip this many lines at the start of a text file' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l max-rows -d 'Read at most this many rows of a text file' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l comment -d 'Lines of a text file that begin with this are comments' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l quote -d 'What quotes cells of CSV: one character, or none to read quotes as plain characters [default: "]' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l null-values -d 'Cells that mean null, separated by commas' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l decimal -d 'Decimal sign of text files' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l shape -d 'Shape of a raw file, such as 1000,28,28; one dimension may be -1 (default: all in one)' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l offset -d 'Bytes to leave out at the start of a raw file' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l order -d 'Which index runs fastest in a raw file (default: C)' -r -f -a "C\t'The last index runs fastest'
F\t'The first index runs fastest, as in Fortran and MATLAB'"
complete -c npk -n "__fish_npk_using_subcommand diff" -l on-duplicate -d 'What to do with two arrays of the same name' -r -f -a "error\t'Refuse them'
rename\t'Rename the later ones to NAME_1, NAME_2, …'
first\t'Keep the first'
last\t'Keep the last'"
complete -c npk -n "__fish_npk_using_subcommand diff" -s j -l jobs -d 'Worker threads (default: one per core); no more than 4, and one for each 8 MiB of --memory-limit' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -s m -l memory-limit -d 'Memory for data in flight, over all files; at least 1MiB' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l profile -d 'AWS profile' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l region -d 'AWS region' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l endpoint-url -d 'Address of an S3-compatible service' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l ca-bundle -d 'PEM file with the certificate authorities to trust' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l addressing -d 'Where requests name the bucket' -r -f -a "path\t'https://HOST/BUCKET/KEY'
virtual\t'https://BUCKET.HOST/KEY'"
complete -c npk -n "__fish_npk_using_subcommand diff" -l retries -d 'How often a failed request is tried again' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l dtype -d 'Type of the elements of a raw file (--from raw), as numpy spells it: float32, >i2, S5' -r
complete -c npk -n "__fish_npk_using_subcommand diff" -l color -d 'When to use colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c npk -n "__fish_npk_using_subcommand diff" -l equal-nan -d 'Treat NaN as equal to NaN (bit-identical ones always are)'
complete -c npk -n "__fish_npk_using_subcommand diff" -l ignore-dtype -d 'Compare values across types'
complete -c npk -n "__fish_npk_using_subcommand diff" -l headers -d 'Compare names, types and shapes only: no data is read'
complete -c npk -n "__fish_npk_using_subcommand diff" -l summary -d 'Show how far apart the values are: for each array, each layer and in total the share of changed elements, the L2 norm of the difference, its largest magnitude, the cosine'
complete -c npk -n "__fish_npk_using_subcommand diff" -l compare-metadata -d 'Compare metadata too'
complete -c npk -n "__fish_npk_using_subcommand diff" -s f -l force -d 'Replace an existing page'
complete -c npk -n "__fish_npk_using_subcommand diff" -l json -d 'JSON on stdout'
complete -c npk -n "__fish_npk_using_subcommand diff" -l trim -d 'Leave out blanks around cells and column names of a text file, outside of quotes'
complete -c npk -n "__fish_npk_using_subcommand diff" -l follow-external -d 'Also read files outside of its folder that an HDF5 file names (virtual sources, external links, raw data)'
complete -c npk -n "__fish_npk_using_subcommand diff" -l no-sign-request -l anon -d 'Public data: do not sign requests'
complete -c npk -n "__fish_npk_using_subcommand diff" -l no-verify-ssl -d 'Do not verify TLS certificates'
complete -c npk -n "__fish_npk_using_subcommand diff" -l request-payer -d 'Pay for requests to a requester-pays bucket'
complete -c npk -n "__fish_npk_using_subcommand diff" -s q -l quiet -d 'Errors only'
complete -c npk -n "__fish_npk_using_subcommand diff" -s v -l verbose -d 'More messages; twice for still more'
complete -c npk -n "__fish_npk_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c npk -n "__fish_npk_using_subcommand diff" -s V -l version -d 'Print version'
complete -c npk -n "__fish_npk_using_subcommand verify" -l certificate -d 'Compare with what convert\'s --certify wrote: a share\'s report, all of them, or their directory. Without PATH the sources are compared, too' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l sample -d 'Check only so many units of a certificate, chosen at random' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l from -d 'Input format (default, or auto: by the first bytes, else the file name; numpy: npy or npz)' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -s g -l group -d 'Only this group of the tree (HDF5, Zarr), or the names below PATH/ or PATH' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l header -d 'Whether the first row is a header' -r -f -a "auto\t'If not all its cells are numbers or empty'
yes\t'It is'
no\t'It is not'"
complete -c npk -n "__fish_npk_using_subcommand verify" -l column-names -d 'Column names, instead of the header\'s' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -s d -l delimiter -d 'Field separator of CSV and TXT (\'\\t\' for a tab)' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l skip-rows -l skip-header -d 'Skip this many lines at the start of a text file' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l max-rows -d 'Read at most this many rows of a text file' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l comment -d 'Lines of a text file that begin with this are comments' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l quote -d 'What quotes cells of CSV: one character, or none to read quotes as plain characters [default: "]' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l null-values -d 'Cells that mean null, separated by commas' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l decimal -d 'Decimal sign of text files' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l shape -d 'Shape of a raw file, such as 1000,28,28; one dimension may be -1 (default: all in one)' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l offset -d 'Bytes to leave out at the start of a raw file' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l order -d 'Which index runs fastest in a raw file (default: C)' -r -f -a "C\t'The last index runs fastest'
F\t'The first index runs fastest, as in Fortran and MATLAB'"
complete -c npk -n "__fish_npk_using_subcommand verify" -l on-duplicate -d 'What to do with two arrays of the same name' -r -f -a "error\t'Refuse them'
rename\t'Rename the later ones to NAME_1, NAME_2, …'
first\t'Keep the first'
last\t'Keep the last'"
complete -c npk -n "__fish_npk_using_subcommand verify" -s j -l jobs -d 'Worker threads (default: one per core); no more than 4, and one for each 8 MiB of --memory-limit' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -s m -l memory-limit -d 'Memory for data in flight, over all files; at least 1MiB' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l profile -d 'AWS profile' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l region -d 'AWS region' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l endpoint-url -d 'Address of an S3-compatible service' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l ca-bundle -d 'PEM file with the certificate authorities to trust' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l addressing -d 'Where requests name the bucket' -r -f -a "path\t'https://HOST/BUCKET/KEY'
virtual\t'https://BUCKET.HOST/KEY'"
complete -c npk -n "__fish_npk_using_subcommand verify" -l retries -d 'How often a failed request is tried again' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l dtype -d 'Type of the elements of a raw file (--from raw), as numpy spells it: float32, >i2, S5' -r
complete -c npk -n "__fish_npk_using_subcommand verify" -l color -d 'When to use colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c npk -n "__fish_npk_using_subcommand verify" -l json -d 'JSON on stdout'
complete -c npk -n "__fish_npk_using_subcommand verify" -l trim -d 'Leave out blanks around cells and column names of a text file, outside of quotes'
complete -c npk -n "__fish_npk_using_subcommand verify" -l follow-external -d 'Also read files outside of its folder that an HDF5 file names (virtual sources, external links, raw data)'
complete -c npk -n "__fish_npk_using_subcommand verify" -l no-sign-request -l anon -d 'Public data: do not sign requests'
complete -c npk -n "__fish_npk_using_subcommand verify" -l no-verify-ssl -d 'Do not verify TLS certificates'
complete -c npk -n "__fish_npk_using_subcommand verify" -l request-payer -d 'Pay for requests to a requester-pays bucket'
complete -c npk -n "__fish_npk_using_subcommand verify" -s q -l quiet -d 'Errors only'
complete -c npk -n "__fish_npk_using_subcommand verify" -s v -l verbose -d 'More messages; twice for still more'
complete -c npk -n "__fish_npk_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c npk -n "__fish_npk_using_subcommand verify" -s V -l version -d 'Print version'
complete -c npk -n "__fish_npk_using_subcommand edit" -l drop -d 'Leave arrays out; patterns as -a has them' -r
complete -c npk -n "__fish_npk_using_subcommand edit" -l rename -d 'Rename an array, after dropping' -r
complete -c npk -n "__fish_npk_using_subcommand edit" -l set-attribute -d 'Set an attribute of the store' -r
complete -c npk -n "__fish_npk_using_subcommand edit" -l color -d 'When to use colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c npk -n "__fish_npk_using_subcommand edit" -l compact -d 'Write the arrays anew without the rows that were deleted, each in one piece'
complete -c npk -n "__fish_npk_using_subcommand edit" -s n -l dry-run -d 'Say what would be done, change nothing'
complete -c npk -n "__fish_npk_using_subcommand edit" -l json -d 'JSON on stdout'
complete -c npk -n "__fish_npk_using_subcommand edit" -s q -l quiet -d 'Errors only'
complete -c npk -n "__fish_npk_using_subcommand edit" -s v -l verbose -d 'More messages; twice for still more'
complete -c npk -n "__fish_npk_using_subcommand edit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c npk -n "__fish_npk_using_subcommand edit" -s V -l version -d 'Print version'
complete -c npk -n "__fish_npk_using_subcommand report" -l profile -d 'AWS profile' -r
complete -c npk -n "__fish_npk_using_subcommand report" -l region -d 'AWS region' -r
complete -c npk -n "__fish_npk_using_subcommand report" -l endpoint-url -d 'Address of an S3-compatible service' -r
complete -c npk -n "__fish_npk_using_subcommand report" -l ca-bundle -d 'PEM file with the certificate authorities to trust' -r
complete -c npk -n "__fish_npk_using_subcommand report" -l addressing -d 'Where requests name the bucket' -r -f -a "path\t'https://HOST/BUCKET/KEY'
virtual\t'https://BUCKET.HOST/KEY'"
complete -c npk -n "__fish_npk_using_subcommand report" -l retries -d 'How often a failed request is tried again' -r
complete -c npk -n "__fish_npk_using_subcommand report" -l color -d 'When to use colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c npk -n "__fish_npk_using_subcommand report" -l json -d 'JSON on stdout'
complete -c npk -n "__fish_npk_using_subcommand report" -l no-sign-request -l anon -d 'Public data: do not sign requests'
complete -c npk -n "__fish_npk_using_subcommand report" -l no-verify-ssl -d 'Do not verify TLS certificates'
complete -c npk -n "__fish_npk_using_subcommand report" -l request-payer -d 'Pay for requests to a requester-pays bucket'
complete -c npk -n "__fish_npk_using_subcommand report" -s q -l quiet -d 'Errors only'
complete -c npk -n "__fish_npk_using_subcommand report" -s v -l verbose -d 'More messages; twice for still more'
complete -c npk -n "__fish_npk_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c npk -n "__fish_npk_using_subcommand report" -s V -l version -d 'Print version'
complete -c npk -n "__fish_npk_using_subcommand formats" -l json -d 'JSON on stdout'
complete -c npk -n "__fish_npk_using_subcommand formats" -l markdown -d 'The table of the README'
complete -c npk -n "__fish_npk_using_subcommand formats" -s h -l help -d 'Print help'
complete -c npk -n "__fish_npk_using_subcommand formats" -s V -l version -d 'Print version'
complete -c npk -n "__fish_npk_using_subcommand completions" -s h -l help -d 'Print help'
complete -c npk -n "__fish_npk_using_subcommand completions" -s V -l version -d 'Print version'
complete -c npk -n "__fish_npk_using_subcommand man" -s h -l help -d 'Print help'
complete -c npk -n "__fish_npk_using_subcommand man" -s V -l version -d 'Print version'
complete -c npk -n "__fish_npk_using_subcommand generate" -s h -l help -d 'Print help'
complete -c npk -n "__fish_npk_using_subcommand generate" -s V -l version -d 'Print version'
