//! What text tables have in common: where cells and rows end, what is a number, which delimiter;
//! Python as the judge.

use npk::error::ErrorKind;
use npk::format::{Auto, Quote, ReadOptions, WriteOptions};
use npk::formats::text::csv::Csv;
use npk::formats::text::delimited::dialect::{Dialect, cells};
use npk::formats::text::delimited::number::Reader;
use npk::formats::text::delimited::parse::{self, Column, Mode};
use npk::formats::text::delimited::scan::Splitter;
use npk::formats::text::delimited::type_inference;
use npk::formats::text::txt::Txt;
use npk::model::Dtype;
use npk::storage::MemoryBlob;

use super::csv::{in_order, numbers, open_with, options, table_with, texts, write};
use crate::support::{Scratch, at, npk, npk_any, npk_fails, npk_peak, python};

#[track_caller]
fn table(text: impl AsRef<[u8]>) -> Vec<String> {
    table_with(&Csv, text, &ReadOptions::default()).unwrap()
}

#[track_caller]
fn refused(text: impl AsRef<[u8]>, options: &ReadOptions) -> (String, String) {
    let error = table_with(&Csv, text, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    (error.message().to_string(), error.hint_text().unwrap_or_default().to_string())
}

fn quote(quote: Quote) -> ReadOptions {
    options(|o| o.text.quote = quote)
}

/// What is no number stays as it is, though it looks like one to this or that reader.
#[test]
fn what_is_a_number() {
    for text in [
        "(50)",
        "(25.5)",
        "()",
        "(j)",
        "j",
        "1J",
        "2 j",
        "1 + 2j",
        "(1+2j",
        "1+2j)",
        "((1+2j))",
        "1j+2",
        "1+2",
        "+-1j",
        "1--2j",
        "1_000",
        "0x10",
        "0b1",
        "1d5",
        "1D5",
        "1e",
        "1e+",
        "1e5.0",
        "e5",
        ".",
        "-",
        "+",
        "--1",
        "+-1",
        "1.2.3",
        "1,000.",
        "1 000",
        "1'000",
        "$1",
        "5%",
        "1f",
        "1.0f",
        "10L",
        "١٢",
        "１２",
        "1\u{a0}",
        "\u{feff}1",
        "½",
        "infin",
        "infi",
        "Infinit",
        "nan1",
        "NaN()",
        "nan(0)",
        "1.#INF",
        "-1.#IND",
        "1e400",
        "007",
        "-007",
        "00",
        "00.",
        "yes",
        "T",
        "truE",
        "9223372036854775808-",
        "1\u{0}",
    ] {
        // 00. is a number for all; quoted, for some hold commas.
        let expected = if text == "00." {
            "a float64: 0.0".to_string()
        } else {
            format!("a string: {text:?}")
        };
        assert_eq!(table(format!("a\n\"{text}\"\n")), [expected], "{text}");
    }
    for (text, expected) in [
        ("1.", "float64: 1.0"),
        (".5", "float64: 0.5"),
        ("+.5e+1", "float64: 5.0"),
        ("-.5E-1", "float64: -0.05"),
        ("+7", "int64: 7"),
        ("  7\t", "int64: 7"),
        ("0", "int64: 0"),
        ("00.5", "float64: 0.5"),
        ("infinity", "float64: inf"),
        ("-INF", "float64: -inf"),
        ("+nan", "float64: NaN"),
        ("NAN", "float64: NaN"),
        ("2j", "complex128: [0.0, 2.0]"),
        ("(2j)", "complex128: [0.0, 2.0]"),
        ("( 1+2j )", "complex128: [1.0, 2.0]"),
        ("1e5-2e-5j", "complex128: [100000.0, -2e-5]"),
        ("nan+infj", "complex128: [NaN, inf]"),
        ("1+-2j", "complex128: [1.0, -2.0]"),
        ("9223372036854775808", "uint64: 9223372036854775808"),
        ("-9223372036854775808", "int64: -9223372036854775808"),
        ("-9223372036854775809", "string: \"-9223372036854775809\""),
        ("18446744073709551616", "string: \"18446744073709551616\""),
        ("TRUE", "bool: true"),
        ("2020-01-31", "string: \"2020-01-31\""),
    ] {
        assert_eq!(
            table(format!("a,b\n{text},\n")),
            [format!("a {expected}"), "b float64?: -".into()],
            "{text}"
        );
    }
}

/// Complex numbers lose no digit either: their parts are doubles.
#[test]
fn complex_numbers_are_exact() {
    assert_eq!(
        table("a\n9007199254740992+1j\n2\n"),
        ["a complex128: [9007199254740992.0, 1.0] [2.0, 0.0]"]
    );
    assert_eq!(table("a\n9007199254740993+1j\n2\n"), ["a string: \"9007199254740993+1j\" \"2\""]);
    assert_eq!(table("a\n2j\n9007199254740993\n"), ["a string: \"2j\" \"9007199254740993\""]);
    let error = table_with(&Txt, "(1-9007199254740993j)\n", &ReadOptions::default()).unwrap_err();
    assert!(
        error.message().contains("is a number that no one type of the column holds exactly"),
        "{error}"
    );
    let lossy = options(|o| (o.text.dtypes, o.text.lossy) = (vec![(None, Dtype::C128)], true));
    assert_eq!(
        table_with(&Txt, "(1-9007199254740993j)\n", &lossy).unwrap(),
        ["col0 complex128: [1.0, -9007199254740992.0]"]
    );
}

/// Thousands of spellings of numbers and what only looks like one: the type and value that Python
/// sees.
#[test]
#[ignore = "asks the real libraries"]
fn python_agrees_about_numbers() {
    let mut random = random_numbers(7);
    let pieces = [
        "0",
        "1",
        "7",
        "12",
        "007",
        "9007199254740993",
        "9223372036854775808",
        "18446744073709551616",
        ".",
        "-",
        "+",
        "e",
        "E",
        "e5",
        "e-3",
        "e400",
        "j",
        "J",
        "(",
        ")",
        "inf",
        "Infinity",
        "nan",
        "NaN",
        "_",
        "x",
        " ",
        "1.5",
        ".5",
        "2.",
        "1e22",
    ];
    let tokens: Vec<String> = (0..4000)
        .map(|_| (0..1 + random(4)).map(|_| pieces[random(pieces.len())]).collect::<String>())
        .filter(|t| !t.trim().is_empty())
        .collect();
    let names: Vec<String> = (0..tokens.len()).map(|i| format!("c{i}")).collect();
    let found = table(format!("{}\n{}\n", names.join(","), tokens.join(",")));
    let scratch = Scratch::new();
    std::fs::write(scratch.join("t.json"), serde_json::to_string(&(&tokens, &found)).unwrap())
        .unwrap();
    let counts = python(
        scratch.path(),
        r#"
import json, re, collections
tokens, found = json.load(open("t.json"))
whole, part = r"[+-]?(0|[1-9][0-9]*)", r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
part = f"({part}|[+-]?(?i:nan|inf|infinity))"
def exact(t):
    return not re.fullmatch(r"[+-]?[0-9]+", t) or int(float(t)) == int(t) or re.sub("0+$", "", t.lstrip("+-")) == re.sub(r"\D|e.*", "", repr(float(t)).replace(".0", ""))
def of(token):
    t = token.strip()
    if re.fullmatch(whole, t) and t != "-0":
        n = int(t)
        if -2**63 <= n < 2**63: return "int64", n
        return ("uint64", n) if 0 <= n < 2**64 else ("string", token)
    if re.fullmatch(part, t) and not re.fullmatch(r"[+-]?0[0-9]+", t):
        x = float(t)
        return ("float64", x) if "inf" in t.lower() or abs(x) != float("inf") else ("string", token)
    inner = t[1:-1].strip() if t.startswith("(") and t.endswith(")") else t
    m = re.fullmatch(rf"(?P<re>{part})?(?P<im>(?(re)[+-]|){part})j", inner)
    m = m or re.fullmatch(rf"(?P<re>{part})\+(?P<im>-{part})j", inner)
    if m:
        halves = [m["re"] or "0", m["im"]]
        values = [float(h) for h in halves]
        fits = all(exact(h) and ("inf" in h.lower() or abs(v) != float("inf")) for h, v in zip(halves, values))
        return ("complex128", values) if fits else ("string", token)
    return "string", token
same = lambda a, b: repr(a) == repr(b) or a != a and b != b
kinds = collections.Counter()
for i, (token, line) in enumerate(zip(tokens, found)):
    name, kind, value = re.fullmatch(r"(\S+) ([^:]+): (.*)", line, re.S).groups()
    want, right = of(token)
    assert name == f"c{i}" and kind == want, (token, line, want, right)
    if want == "string": assert json.loads(value) == right, (token, line)
    elif want == "complex128": assert all(map(same, map(float, value.strip("[]").split(",")), right)), (token, line, right)
    elif want == "float64": assert same(float(value), right), (token, line, right)
    else: assert int(value) == right, (token, line, right)
    kinds[kind] += 1
print(*(kinds[k] for k in ("int64", "uint64", "float64", "complex128", "string")))
"#,
    );
    let counts: Vec<u32> = counts.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert!(counts.len() == 5 && counts.iter().all(|&n| n >= 10), "every type occurs: {counts:?}");
}

/// A generator with a fixed seed: numbers below the one given.
fn random_numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = 0x9E37_79B9_7F4A_7C15 ^ seed;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    }
}

fn dialect(change: impl FnOnce(&mut Dialect)) -> Dialect {
    let mut dialect = Dialect {
        delimiter: Some(b','),
        quote: Some(b'"'),
        comment: None,
        inline: false,
        blank_rows: false,
        trim: false,
        zeros: false,
        numbers_only: false,
        nulls: None,
        null_numbers: false,
        reader: Reader::new(b'.'),
    };
    change(&mut dialect);
    dialect
}

/// Rows of cells, `None` where a cell is null.
type Rows = Vec<Vec<Option<String>>>;

/// The rows of a text, all cells as text; cut into blocks of about so many bytes first. `None`: it
/// is refused.
fn rows_of(dialect: &Dialect, text: &str, block_bytes: usize) -> Option<Rows> {
    let start = dialect.row_start(text.as_bytes(), 0);
    let width = cells(dialect, text.as_bytes(), start, usize::MAX).0.len();
    let dialect = Dialect { blank_rows: width == 1, ..dialect.clone() };
    let blob = MemoryBlob(text.as_bytes().to_vec());
    let mut splitter = Splitter::new(&blob, &dialect, 0, block_bytes, 1 << 20);
    let (mut rows, mut block) = (Rows::new(), Vec::new());
    while splitter.next(&mut block).unwrap().is_some() {
        let mut columns = vec![Column::new(Mode::Start); width];
        columns.iter_mut().for_each(|c| c.begin(type_inference::TEXT));
        let count = parse::parse(&dialect, &block, &mut columns, u64::MAX).ok()?;
        for row in 0..count as usize {
            let cell = |c: &Column| {
                let from = if row == 0 { 0 } else { c.ends[row - 1] as usize };
                let text = String::from_utf8(c.text[from..c.ends[row] as usize].to_vec()).unwrap();
                (!c.nulls.contains(&(row as u32))).then_some(text)
            };
            rows.push(columns.iter().map(cell).collect());
        }
    }
    Some(rows)
}

fn random_text(random: &mut impl FnMut(usize) -> usize, pieces: &[&str]) -> String {
    (0..random(24)).map(|_| pieces[random(pieces.len())]).collect()
}

/// Thousands of random texts: the cells that Python's csv module (strict) finds, or an error where
/// it has one.
#[test]
#[ignore = "asks the real libraries"]
fn python_agrees_about_rows_and_cells() {
    let mut random = random_numbers(11);
    let pieces = [
        "\"", "\"", "\"\"", ",", ",", "\n", "\n", "\r\n", "\r", "1", "-2.5", "ab", " ", "#", ";",
        "\\", "é", "\u{0}",
    ];
    let few = ["\"", ",", "\n", "x"];
    let texts: Vec<String> = (0..8000)
        .map(|i| random_text(&mut random, if i % 2 == 0 { &pieces } else { &few }))
        .collect();
    let scratch = Scratch::new();
    std::fs::write(scratch.join("t.json"), serde_json::to_string(&texts).unwrap()).unwrap();
    let theirs = python(
        scratch.path(),
        r#"
import csv, io, json
def rows(text):
    try: return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error: return None
print(json.dumps([rows(text) for text in json.load(open("t.json"))]))
"#,
    );
    let theirs: Vec<Option<Vec<Vec<String>>>> = serde_json::from_str(&theirs).unwrap();
    let plain = dialect(|_| ());
    let (mut agreed, mut refused) = (0, 0);
    for (text, theirs) in texts.iter().zip(theirs) {
        let blank = |row: &Vec<String>| row.is_empty();
        let width =
            theirs.as_ref().and_then(|rows| rows.iter().find(|r| !blank(r))).map_or(0, Vec::len);
        let right = theirs.filter(|rows| rows.iter().all(|r| blank(r) || r.len() == width)).map(
            |mut rows| {
                rows.retain(|r| width == 1 || !blank(r));
                rows
            },
        );
        if right.as_ref().is_some_and(Vec::is_empty) || width == 0 && right.is_some() {
            continue; // blank lines alone
        }
        for block_bytes in [1 << 20, 1, 3, 8] {
            let ours = rows_of(&plain, text, block_bytes);
            match (&ours, &right) {
                (None, None) => refused += 1,
                (Some(ours), Some(right)) => {
                    // One column: a blank line is null. More: an empty cell may be null.
                    let same = |(ours, right): (&Vec<Option<String>>, &Vec<String>)| match width {
                        1 => ours[0].as_ref() == right.first(),
                        _ => {
                            ours.iter().zip(right).all(|(o, r)| o.as_deref().unwrap_or("") == r)
                                && ours.len() == right.len()
                        }
                    };
                    assert!(
                        ours.len() == right.len() && ours.iter().zip(right).all(same),
                        "{text:?}: {ours:?}, Python: {right:?}"
                    );
                    agreed += 1;
                }
                _ => panic!("{text:?} in blocks of {block_bytes}: {ours:?}, Python: {right:?}"),
            }
        }
    }
    assert!(agreed > 4000 && refused > 4000, "{agreed} agreed, {refused} refused");
}

/// However a text is cut into blocks, it has the same rows: with comments, blanks around cells,
/// other quotes.
#[test]
fn blocks_end_where_rows_do() {
    let mut random = random_numbers(13);
    let pieces = ["\"", "\"", ",", "\n", "\r\n", "\r", "1", "a", " ", " ", "#", "'", "\t"];
    let dialects = [
        dialect(|d| d.comment = Some(b'#')),
        dialect(|d| d.trim = true),
        dialect(|d| (d.trim, d.comment) = (true, Some(b'#'))),
        dialect(|d| d.quote = None),
        dialect(|d| d.quote = Some(b'\'')),
        dialect(|d| (d.trim, d.delimiter) = (true, Some(b'\t'))),
    ];
    let (mut taken, mut refused) = ([0; 6], [0; 6]);
    // A comment sign within quotes, a comment before a lone `\r`.
    let known = ["\"a\n#b\",\"c\nd\"\n1,2\n", "#c\r\"a\nb\"\n1\n", "#\"a\n\"b\n\"\n"];
    for i in 0..12_000 {
        let d = i % dialects.len();
        let text = known
            .get(i / dialects.len())
            .map_or_else(|| random_text(&mut random, &pieces), |t| t.to_string());
        let whole = rows_of(&dialects[d], &text, 1 << 20);
        for block_bytes in [1, 2, 5] {
            assert_eq!(
                rows_of(&dialects[d], &text, block_bytes),
                whole,
                "{text:?}, dialect {d}, blocks of {block_bytes}"
            );
        }
        let count = if whole.is_some() { &mut taken[d] } else { &mut refused[d] };
        *count += 1;
    }
    assert!(taken.iter().chain(&refused).all(|&n| n > 100), "{taken:?} {refused:?}");
}

/// In a table of one column a blank line is a row.
#[test]
fn blank_lines_are_rows_of_one_column() {
    assert_eq!(table("v\n1\n\n3\n"), ["v int64?: 1 - 3"]);
    assert_eq!(table("v\r\n1\r\n\r\n3\r\n\r\n"), ["v int64?: 1 - 3 -"]);
    assert_eq!(table("v\r1\r\r3"), ["v int64?: 1 - 3"]);
    assert_eq!(table("\n\nv\n\"\"\n\nx\n"), ["v string?: \"\" - \"x\""]);
    // Without a header those at the beginning are rows as well.
    assert_eq!(table("\n1\n2\n"), ["col0 int64?: - 1 2"]);
    let no = options(|o| o.text.header = Auto::No);
    assert_eq!(table_with(&Csv, "\nx\n\n", &no).unwrap(), ["col0 string?: - \"x\" -"]);
    let comments = options(|o| o.text.comment = Some(b'#'));
    assert_eq!(table_with(&Csv, "v\n#\r\n1\n#x\n\n2\n", &comments).unwrap(), ["v int64?: 1 - 2"]);
    // Of several columns they are none.
    assert_eq!(table("a,b\n\n1,2\n\n\n3,4\n\n"), ["a int64: 1 3", "b int64: 2 4"]);
    assert_eq!(table_with(&Txt, "1\n\n3\n", &ReadOptions::default()).unwrap(), ["col0 int64: 1 3"]);
}

/// One column with nulls comes back as it was, text as well as numbers and times.
#[test]
fn one_column_with_nulls_reads_back() {
    use npk::model::{Buf, Logical, TimeUnit};
    let scratch = Scratch::new();
    let path = scratch.join("t.csv");
    let replace =
        WriteOptions { existing: npk::format::Existing::Replace, ..WriteOptions::default() };
    let back = |column| {
        write(&Csv, &path, in_order(vec![column]), &replace).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        (text.clone(), table(text))
    };
    let (text, found) = back(texts("t", &[None, Some(""), Some("x"), None, Some("NA"), None]));
    assert_eq!(
        (text.as_str(), found),
        ("t\n\n\"\"\nx\n\nNA\n\n", vec!["t string?: - \"\" \"x\" - \"NA\" -".to_string()])
    );
    let nulls = |(mut meta, mut chunks): (npk::model::ArrayMeta, Vec<npk::model::Chunk>)| {
        meta.nulls = true;
        chunks[0].valid = Some(Buf::from(vec![0u8, 1, 0]));
        (meta, chunks)
    };
    // Others read a quoted empty cell as a row, a blank line not.
    let (text, found) = back(nulls(numbers("f", Dtype::F64, vec![0.0, 2.5, 0.0])));
    assert_eq!(
        (text.as_str(), found),
        ("f\n\"\"\n2.5\n\"\"\n", vec!["f float64?: - 2.5 -".to_string()])
    );
    let (mut meta, chunks) = numbers("d", Dtype::I64, vec![i64::MIN, 1]);
    meta.logical = Logical::Datetime(TimeUnit::new("D"));
    assert_eq!(back((meta, chunks)).1, ["d string?: - \"1970-01-02\""]);
}

/// Rows that another delimiter makes a rectangle of are never one column of text.
#[test]
fn other_delimiters_are_told() {
    let refused_with = |name: &str, text: &str| {
        let scratch = Scratch::new();
        std::fs::write(scratch.join(name), text).unwrap();
        let path = at(&scratch, name);
        // The names alone, too.
        for args in [
            &["list", &path][..],
            &["list", "-l", &path],
            &["convert", &path, &at(&scratch, "o.npk")],
        ] {
            let error = npk_fails(4, args);
            assert!(error.contains("only one column"), "{error}");
        }
        let comma = if name.ends_with(".tsv") { "\\t" } else { "," };
        let given = npk_any(&["list", "-d", comma, &path]);
        assert!(!String::from_utf8(given.stderr).unwrap().contains("only one column"), "{text}");
        npk_fails(4, &["list", &path]).split_once("hint: ").unwrap().1.trim().to_string()
    };
    for (text, give) in [
        ("0.142857 -0.333333 1\n0.285714 -0.666667 2\n", "-d ' '"),
        ("Chins Situps Jumps\n5 162 60\n2 110 60\n", "-d ' '"),
        ("Chins  Situps\n5  162\n2  110\n", "--from txt --header yes"),
        (" 1  2\n 10 20\n", "--from txt"),
        ("Anna  5\nBert 12\n", "--from txt --header no"),
        ("name  size\nAnna  5\nBert 12\n", "--from txt --header yes"),
        ("5 162 60", "-d ' '"),
        ("1|6370|371|\"p1\"\n10|214|465|\"p2\nbla\n\"\n11|215|466|\"p3\"\n", "-d '|'"),
        ("\"x\";\"y\"\n\"1;2\";\"3\"\n", "-d ';'"),
        ("\"a;b\"\n\"1;2\"\n", "-d ';'"),
        ("a\tb\n1\t\n\t2\n", "-d '\\t'"),
        ("user:uid:home\nroot:0:/root\nme:1000:/home/me\n", "-d ':'"),
    ] {
        assert!(
            refused_with("t.csv", text).starts_with(&format!("give {give}, or -d ',' if")),
            "{text}: {give}"
        );
    }
    for (text, give) in
        [("a,b\n1,2\n", "-d ','"), ("a;b\n1;2\n", "-d ';'"), ("1 2\n3 4\n", "-d ' '")]
    {
        assert!(
            refused_with("t.tsv", text).starts_with(&format!("give {give}, or -d '\\t' if")),
            "{text}: {give}"
        );
    }
    // Decimal commas.
    for (text, give) in [
        ("1,5 2,7\n3,5 4,25\n", "--from txt --decimal ','"),
        ("x y\n1,5  2,7\n3  4,25\n", "--from txt --header yes --decimal ','"),
    ] {
        let (message, hint) = refused(text, &ReadOptions::default());
        assert!(
            message.contains("numbers with decimal commas, and blanks between them")
                && hint.starts_with(&format!("give {give}, or")),
            "{hint}"
        );
    }
}

/// One column of text is one, whatever signs are in it.
#[test]
fn one_column_of_text_is_read() {
    let scratch = Scratch::new();
    let path = scratch.join("t.csv");
    for (text, rows) in [
        ("name\nAnna Smith\nBert Jones\nCarl Gauss\n", 3),
        ("first last\nAnna Smith\nBert Jones\n", 2),
        ("Anna Smith\nBert Jones\n", 1),
        ("comment\nit costs 5 or 6\nit is free\n\n", 3),
        ("time\n12:30:00\n13:45:10\n", 2),
        ("12:30:00\n13:45:10\n", 1),
        ("2020-01-01 12:00\n2020-01-02 13:00\n", 1),
        ("url\nhttp://a/b\nhttp://c/d\n", 2),
        ("amount\n1 000\n2 500\n", 2),
        ("vector\n[0.1 0.2 0.3]\n[1 2 3]\n", 2),
        ("a b c\n", 0),
        ("list\n1;2;3\n4;5\n", 2),
        ("\"Body weight\"\n\"75 kg\"\n", 1),
        ("note\n\"a;b\"\nc\n", 2),
    ] {
        std::fs::write(&path, text).unwrap();
        let source = open_with(&Csv, &path, &ReadOptions::default()).unwrap();
        let arrays = &source.plan().arrays;
        assert_eq!((arrays.len(), arrays[0].rows), (1, Some(rows)), "{text}");
    }
}

/// Bytes after a closing quote are never dropped: line and column say where they are.
#[test]
fn text_after_a_closing_quote_is_refused() {
    let plain = ReadOptions::default();
    let (message, hint) = refused("u,name\nb,\"red,\\\"dark\"\ng,plain\n", &plain);
    assert_eq!(
        message,
        r#"line 2: text follows the closing quote of the cell '\"red,\\\"dark\"' (column 2)"#
    );
    assert!(hint.contains(r#"sed 's/\\"/""/g'"#), "{hint}");
    let tabs = options(|o| o.text.delimiter = Some(b'\t'));
    let lorem = "t\tu\n\"Lorem\" ipsum\tx\n";
    let (message, hint) = refused(lorem, &tabs);
    assert!(
        message.starts_with("line 2: text follows the closing quote")
            && message.ends_with("(column 1)"),
        "{message}"
    );
    assert!(hint.contains("--quote none"), "{hint}");
    let unquoted = options(|o| (o.text.delimiter, o.text.quote) = (Some(b'\t'), Quote::None));
    assert_eq!(
        table_with(&Csv, lorem, &unquoted).unwrap(),
        ["t string: \"\\\"Lorem\\\" ipsum\"", "u string: \"x\""]
    );
    // In the header, at the end of the file, in columns that nobody wants; blanks and doubled
    // quotes count.
    for text in ["\"a\"x,b\n1,2\n", "a,b\n1,\"2\"x", "a,b\n1,\"2\" \n", "a,b\n1,\"2\"\"\"x\"\n"] {
        let (message, _) = refused(text, &plain);
        assert!(message.contains("text follows the closing quote"), "{text}: {message}");
    }
    let only_a = options(|o| {
        o.choice = Some(npk::format::Choice { include: vec!["a".into()], exclude: Vec::new() })
    });
    assert!(refused("a,b\n1,\"2\"x\n", &only_a).0.ends_with("(column 2)"));
    // A quote within an unquoted cell is a character.
    assert_eq!(
        table("a,b\nx\"y, \"z\"\n\"\"\"q\"\"\",'\n"),
        ["a string: \"x\\\"y\" \"\\\"q\\\"\"", "b string: \" \\\"z\\\"\" \"'\""]
    );
}

#[test]
fn quotes_as_asked_for() {
    assert_eq!(
        table_with(&Csv, "a,b\n\"1,2\"\n", &quote(Quote::None)).unwrap(),
        ["a string: \"\\\"1\"", "b string: \"2\\\"\""]
    );
    let single = quote(Quote::Byte(b'\''));
    assert_eq!(
        table_with(&Csv, "a,b\n'1,''2\n',\"\n", &single).unwrap(),
        ["a string: \"1,'2\\n\"", "b string: \"\\\"\""]
    );
    for (byte, kind) in [
        (b',', ErrorKind::Usage),
        (b'x', ErrorKind::Usage),
        (b'.', ErrorKind::Usage),
        (b' ', ErrorKind::Usage),
    ] {
        let error = table_with(&Csv, "a\n1\n", &quote(Quote::Byte(byte))).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!(
        table_with(&Txt, "'1'\n", &quote(Quote::Byte(b'\''))).unwrap_err().kind(),
        ErrorKind::Usage
    );
    // What is written has quotes as ever.
    let scratch = Scratch::new();
    let (from, to) = (at(&scratch, "a.csv"), at(&scratch, "b.csv"));
    std::fs::write(&from, "a,b\n\"x,1\n").unwrap();
    npk(&["convert", &from, &to, "--quote", "none"]);
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "a,b\n\"\"\"x\",1\n");
    npk_fails(2, &["list", "--quote", "ab", &from]);
    // Nor has reading it again.
    std::fs::write(&from, "skipped\na,b\n\"x,1\n\"y,2\n\"z,3\n").unwrap();
    npk(&[
        "convert",
        "-f",
        &from,
        &to,
        "--quote",
        "none",
        "--skip-rows",
        "1",
        "--max-rows",
        "2",
        "--verify",
    ]);
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "a,b\n\"\"\"x\",1\n\"\"\"y\",2\n");
}

/// `--trim` takes blanks off names and cells; without it they stay.
#[test]
fn blanks_around_cells() {
    let text = "Block, Timestamp , t\n 428925, 1473387721 , \" in quotes \" \n, ,  x y\t\n";
    assert_eq!(
        table(text.replace("\" in quotes \" ", "in")),
        [
            "Block int64?: 428925 -",
            " Timestamp  string: \" 1473387721 \" \" \"",
            " t string: \" in\" \"  x y\\t\""
        ]
    );
    let trim = options(|o| o.text.trim = true);
    assert_eq!(
        table_with(&Csv, text, &trim).unwrap(),
        [
            "Block int64?: 428925 -",
            "Timestamp int64?: 1473387721 -",
            "t string: \" in quotes \" \"x y\""
        ]
    );
    let tabs = options(|o| (o.text.trim, o.text.delimiter) = (true, Some(b'\t')));
    assert_eq!(
        table_with(&Csv, "a \t b\n\t x\n  \n", &tabs).unwrap(),
        ["a float64?: -", "b string: \"x\""]
    );
    // Names that are the same then are repeated names.
    let (message, _) = refused("a, a\n1,2\n", &trim);
    assert!(message.contains("the name appears twice: column 1 and column 2"), "{message}");
    assert_eq!(table_with(&Csv, "v\n 1 \n  \n", &trim).unwrap(), ["v int64?: 1 -"]);
}

/// Names have their blanks, but need not be asked for with them.
#[test]
fn names_are_found_without_their_blanks() {
    let scratch = Scratch::new();
    let (path, out) = (at(&scratch, "t.csv"), at(&scratch, "o.npk"));
    std::fs::write(&path, "Block, Timestamp, Time,Time \n428925, 1473387721,0.5,1.5\n").unwrap();
    let names = |args: &[&str]| npk(&[&["list", &path][..], args].concat());
    assert_eq!(names(&[]), "Block\n Timestamp\n Time\nTime \n");
    assert_eq!(names(&["-a", "Timestamp"]), " Timestamp\n");
    assert_eq!(names(&["-a", "Block, Timestamp"]), "Block\n Timestamp\n");
    assert_eq!(names(&["-a", "T*p", "-x", "Time"]), " Timestamp\n");
    // The exact name comes first, then all that are the same but for blanks.
    assert_eq!(names(&["-a", " Time"]), " Time\n");
    assert_eq!(names(&["-a", "Time"]), " Time\nTime \n");
    assert_eq!(names(&["--trim", "--on-duplicate", "first"]), "Block\nTimestamp\nTime\n");
    npk(&[
        "convert",
        &path,
        &out,
        "-a",
        "Timestamp,Block",
        "--dtype",
        "Timestamp=float32",
        "--lossy",
        "--layout",
        "columns",
    ]);
    assert_eq!(npk(&["list", "-l", &out]), " Timestamp\tfloat32\t1\t4\nBlock\tint64\t1\t8\n");
    assert!(npk_fails(3, &["list", &path, "-a", "Stamp"]).contains("no array matches 'Stamp'"));
}

/// Decimal commas get their flag: where text is an error, where the numbers would be a header,
/// where a column is text.
#[test]
fn decimal_commas_get_a_hint() {
    for (text, hint) in [
        (
            "1,5 2,7\n",
            "--decimal ',' if the comma is the decimal sign, -d ',' if it is the delimiter",
        ),
        (
            "1 2\n3 4,25\n",
            "--decimal ',' if the comma is the decimal sign, -d ',' if it is the delimiter",
        ),
        ("1,2,3\n", "-d ',' if ',' is the delimiter"),
        ("1;2\n", "-d ';' if ';' is the delimiter"),
    ] {
        let error = table_with(&Txt, text, &ReadOptions::default()).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Refused && error.hint_text() == Some(hint),
            "{text}: {error} {:?}",
            error.hint_text()
        );
    }
    let semicolons = options(|o| o.text.delimiter = Some(b';'));
    let (message, hint) = refused("1,5;2,7\n", &semicolons);
    assert!(
        message.contains("the first row holds numbers with decimal commas")
            && hint.starts_with("--decimal ','"),
        "{message}"
    );
    let with = options(|o| (o.text.delimiter, o.text.decimal) = (Some(b';'), Some(b',')));
    assert_eq!(
        table_with(&Csv, "1,5;2,7\n", &with).unwrap(),
        ["col0 float64: 1.5", "col1 float64: 2.7"]
    );
    let scratch = Scratch::new();
    let (path, out) = (at(&scratch, "t.csv"), at(&scratch, "o.npk"));
    let notes = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let output = npk_any(&["convert", "-f", "-d", ";", &path, &out]);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let told = notes("a;b;c;d\n1,5;x;2,5;3\n-2e1;1,5;x;4,5\n;;;NA\n");
    assert!(
        told.contains(
            "numbers with the decimal sign ',': a, d; --decimal ',' reads them as numbers"
        ),
        "{told}"
    );
    assert!(!notes("a;b\n1,5,6;007\n1;008\n").contains("--decimal"), "no decimal commas");
}

/// Lines end with `\r` alone, too: skipped ones, those that errors count, those at the ends of
/// blocks.
#[test]
fn carriage_returns_end_lines() {
    for end in ["\n", "\r\n", "\r"] {
        let lines = |lines: &[&str]| lines.iter().map(|l| format!("{l}{end}")).collect::<String>();
        let skip = options(|o| o.text.skip_rows = 2);
        assert_eq!(
            table_with(&Csv, lines(&["one", "\"two", "a,b", "1,2"]), &skip).unwrap(),
            ["a int64: 1", "b int64: 2"]
        );
        let error =
            table_with(&Csv, lines(&["a,b", "1,2", "", "3"]), &ReadOptions::default()).unwrap_err();
        assert!(error.message().starts_with("line 4:"), "{end:?}: {error}");
        // Far more than a block.
        let small = options(|o| o.resources = o.resources.with_memory(1 << 20));
        let long = lines(&["a,b"]) + &lines(&["12345,\"6\""]).repeat(200_000);
        let found = table_with(&Csv, long, &small).unwrap();
        assert!(found.iter().all(|c| c.matches(' ').count() == 200_001), "{end:?}");
    }
}

#[test]
fn other_encodings_are_refused_by_name() {
    let encoded = |text: &str, width: usize, little: bool| -> Vec<u8> {
        let bytes = text.chars().flat_map(|c| {
            let four = u32::from(c).to_be_bytes();
            let mut bytes = four[4 - width..].to_vec();
            if little {
                bytes.reverse();
            }
            bytes
        });
        bytes.collect()
    };
    for (bytes, word) in [
        (encoded("ab,c\n1,2\n", 2, true), "utf-16le"),
        (encoded("ab,c\n1,2\n", 2, false), "utf-16be"),
        (encoded("\u{feff}ab,c\n1,2\n", 4, true), "utf-32"),
        (encoded("\u{feff}ab,c\n1,2\n", 4, false), "utf-32"),
    ] {
        let (_, hint) = refused(bytes, &ReadOptions::default());
        assert!(hint.contains(word), "{hint}");
    }
    // A mark within the text is text.
    assert_eq!(table("\u{feff}a,b\n\u{feff}1,2\n"), ["a string: \"\\u{feff}1\"", "b int64: 2"]);
}

/// Rows longer than the memory limit allows are refused with the numbers; one of them within it is
/// read.
#[test]
#[ignore = "asks the real libraries"]
fn long_rows_are_bounded() {
    let scratch = Scratch::new();
    let (path, out) = (at(&scratch, "t.csv"), at(&scratch, "o.npk"));
    let long = "x".repeat(3 << 20);
    for text in [
        long.clone(),
        format!("a,b\n1,{long}\n2,y\n"),
        format!("a,b\n1,\"{}\"\n", "x\n".repeat(2 << 20)),
        format!("a,b\n1,\"{long}"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = npk_fails(4, &["convert", &path, &out, "-m", "1MiB"]);
        assert!(
            error.contains("has no end within 1 MiB") && error.contains("--memory-limit"),
            "{error}"
        );
        assert_eq!(scratch.names(), ["t.csv"]);
    }
    // Long rows within the limit are read one at a time, however many threads there are.
    let text = format!("a,b\n{}", format!("1,\"{long}\"\n").repeat(12));
    std::fs::write(&path, text).unwrap();
    let small = npk_peak(&["list", "-l", "-m", "32MiB", "-j", "1", &path]);
    let large = npk_peak(&["list", "-l", "-m", "32MiB", "-j", "12", &path]);
    assert_eq!((small.0, large.0), (0, 0), "{}", large.1);
    assert!(large.2 < small.2 + (20 << 20), "{} and {} bytes", small.2, large.2);
    npk(&["convert", &path, &out, "-m", "32MiB"]);
    assert_eq!(npk(&["list", "-l", &out]), "a\tint64\t12\t96\nb\tstring\t12\t48\n");
}

/// Tables of very many columns come out as they went in, alone and joined, and take memory by the
/// column.
#[test]
#[ignore = "asks the real libraries"]
fn wide_tables() {
    let scratch = Scratch::new();
    let [path, out, joined] = ["t.csv", "o.csv", "j.csv"].map(|name| at(&scratch, name));
    let columns = 30_000;
    let line = |cell: &dyn Fn(usize) -> String| {
        (0..columns).map(cell).collect::<Vec<_>>().join(",") + "\n"
    };
    let header = line(&|i| format!("c{i}"));
    let rows: String = (0..3)
        .map(|r| line(&|i| if i % 3 == 0 { format!("t{r}{i}") } else { (i * 7 + r).to_string() }))
        .collect();
    std::fs::write(&path, format!("{header}{rows}")).unwrap();
    for (args, to, text) in [
        (vec!["convert", &path, &out], &out, format!("{header}{rows}")),
        (
            vec!["convert", "--concat", &path, &out, &joined],
            &joined,
            format!("{header}{rows}{rows}"),
        ),
        (vec!["convert", "-f", &path, &out, "-x", "c1*"], &out, String::new()),
    ] {
        let (code, told, peak) = npk_peak(&args);
        assert_eq!(code, 0, "{told}");
        assert!(peak < 400 << 20, "{peak} bytes");
        let written = std::fs::read_to_string(to).unwrap();
        assert!(text.is_empty() && written.starts_with("c0,c2,c3,") || written == text, "{args:?}");
    }
}

/// Compressed files that were cut say so and leave nothing behind.
#[test]
fn cut_compressed_files() {
    let scratch = Scratch::new();
    let text: String = std::iter::once("a,b\n".into())
        .chain((0..20_000).map(|i| format!("{i},{}\n", i * 7)))
        .collect();
    std::fs::write(scratch.join("t.csv"), &text).unwrap();
    for ending in ["gz", "zst"] {
        let name = format!("t.csv.{ending}");
        let (path, out) = (at(&scratch, &name), at(&scratch, "o.npk"));
        npk(&["convert", &at(&scratch, "t.csv"), &path]);
        let bytes = std::fs::read(&path).unwrap();
        for end in [0, 1, 2, 3, 9, 12, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..end]).unwrap();
            for args in [&["convert", &path, &out][..], &["list", "-l", &path], &["verify", &path]]
            {
                let error = npk_fails(7, args);
                assert!(
                    error.contains("data ends too early") || error.contains("is damaged"),
                    "{end}: {error}"
                );
            }
            assert!(!scratch.names().contains(&"o.npk".to_string()));
        }
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(scratch.names(), ["t.csv"]);
}
