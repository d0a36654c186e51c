//! A text table as a source: its header, its columns, rows at random from what the scan kept.

use std::sync::Arc;

use crate::error::{Context, Error, Result};
use crate::format::{self, Auto, Choice, Order, ReadOptions, Source, TextOptions, duplicates};
use crate::model::{ArrayMeta, Column as TableColumn, Details, Dtype, Facts, Plan, Table};
use crate::storage::Location;

use super::dialect::{self, Dialect};
use super::input::{self, Input};
use super::lines;
use super::parse::{self, Column, Mode};
use super::rows::Reader;
use super::scan::{self, Request, Splitter};
use super::type_inference::{self, Type, resolve};
use super::{delimiter_check, inexact_numbers, sink};

/// Columns of a table at most: a line without any structure shall not fill the memory.
const MAX_COLUMNS: usize = 1 << 20;

/// What sets CSV and TXT apart.
pub struct Flavor {
    /// The format's name.
    pub name: &'static str,
    /// How it is written, before options.
    pub dialect: Dialect,
    /// Whether a column full of other delimiters is refused, where the delimiter is a mere default.
    pub check_delimiter: bool,
    /// Whether a blank line is a row, in a table of one column.
    pub blank_rows: bool,
    /// Whether the first row may be a header without being asked for.
    pub header: bool,
    /// Whether number columns of several types become one (as one numpy array).
    pub one_type: bool,
}

/// Opens a text table.
///
/// # Errors
/// Missing or unreadable; rows that cannot be taken; names that clash.
pub fn open(at: &Location, options: &ReadOptions, flavor: Flavor) -> Result<Box<dyn Source>> {
    open_table(at, options, flavor).at_file(&at.display())
}

fn open_table(at: &Location, options: &ReadOptions, flavor: Flavor) -> Result<Box<dyn Source>> {
    if !options.names_only {
        let input = input::open(at, None)?;
        return read_table(input, options, &flavor);
    }
    let most = scan::row_bytes_max(options.resources.memory_bytes()) as u64;
    let input = input::open(at, Some(1 << 20))?;
    let cut = input.cut;
    match read_table(input, options, &flavor) {
        Err(_) if cut => read_table(input::open(at, Some(most))?, options, &flavor),
        done => done,
    }
}

fn read_table(input: Input, options: &ReadOptions, flavor: &Flavor) -> Result<Box<dyn Source>> {
    let text = &options.text;
    let start = lines::skip_lines(input.blob.as_ref(), input.start, text.skip_rows)?;
    let head = read_head(&input, options, flavor, start)?;
    let dialect = &Dialect {
        blank_rows: flavor.blank_rows && head.names.len() == 1,
        ..flavor.dialect.clone()
    };
    let mut plan = Plan { format: flavor.name, notes: input.notes.clone(), ..Plan::default() };
    // Which columns of the file are arrays.
    let names =
        duplicates::unique(&head.names, options.on_duplicate, &|i| format!("column {}", i + 1))?;
    let kept: Vec<usize> = (0..names.len()).filter(|&i| names[i].is_some()).collect();
    let name = |i: usize| names[i].as_deref().unwrap_or_default();
    plan.tables.push(Table {
        columns: kept.iter().map(|&i| TableColumn::read(name(i), &head.headers[i])).collect(),
        ..Table::default()
    });
    if options.names_only {
        plan.arrays = kept.iter().map(|&i| Type::Float64.column(name(i), None)).collect();
        return Ok(Box::new(TextSource { plan, reader: None }));
    }
    let all_names: Vec<&str> = (0..names.len()).map(name).collect();
    let wanted = wanted(options, &names, &all_names);
    // The type that all have is that of the whole file, whichever are chosen.
    let looked_at = |i: usize| wanted[i] || flavor.one_type && names[i].is_some();
    let modes = (0..names.len()).map(|i| if looked_at(i) { Mode::Start } else { Mode::Skip });
    let (columns, asked) = columns(modes.collect(), &all_names, text, dialect);
    let numbers_only: Vec<bool> = columns.iter().map(|c| c.numbers_only).collect();
    let text_only: Vec<bool> = columns.iter().map(|c| c.text_only).collect();
    let skipped: Vec<bool> = wanted.iter().map(|wanted| !wanted).collect();
    let request = Request {
        blob: input.blob.as_ref(),
        start: head.rows_at,
        dialect,
        columns,
        max_rows: text.max_rows,
        resources: &options.resources,
    };
    let scanned = scan::scan(&request).map_err(|e| hinted(e, dialect)).map_err(|e| {
        match head.headers.as_slice() {
            [one] if flavor.check_delimiter && text.delimiter.is_none() => {
                delimiter_check::hinted(e, one)
            }
            _ => e,
        }
    })?;
    let mut types: Vec<Type> = scanned.classes.iter().map(|&c| resolve(c)).collect();
    if flavor.one_type {
        one_type(&mut types, &scanned.classes);
    }
    let mut wrong = Vec::new();
    for i in 0..types.len() {
        if numbers_only[i] && types[i] == Type::Text && !skipped[i] {
            wrong.push(mixed_numbers(asked[i].is_some(), dialect).array(name(i)));
        }
        let text = skipped[i] || text_only[i];
        types[i] = if text { Type::Text } else { narrowed(types[i], asked[i]) };
    }
    Error::all(wrong)?;
    let typed =
        |i: usize| skipped[i] || text_only[i] || asked[i].is_some_and(|(by_name, _)| by_name);
    plan.arrays = arrays(&kept, &names, &types, &scanned, (input.compression, &typed)).into();
    let types = kept.iter().map(|&i| types[i]).collect();
    let skipped = kept.iter().map(|&i| skipped[i]).collect();
    let reader = Reader { scanned, columns: kept, types, skipped };
    let notes = inexact_numbers::notes(&reader, &plan.arrays, dialect)?;
    plan.notes.extend(notes);
    let reader = Arc::new(reader);
    Ok(Box::new(TextSource { plan, reader: Some(reader) }))
}

/// The arrays of these columns; `typed`: whether something other than its cells tells a column's type.
/// There may be very many: what is known of all of them is held once.
fn arrays(
    kept: &[usize],
    names: &[Option<String>],
    types: &[Type],
    scanned: &scan::Scanned,
    (compression, typed): (Option<&str>, &dyn Fn(usize) -> bool),
) -> Vec<ArrayMeta> {
    let details = compression.map_or_else(Details::default, |compression| {
        Facts { compression: Some(compression.to_string()), ..Facts::default() }.into()
    });
    let untyped: Details = Facts { untyped: true, ..Facts::clone(&details) }.into();
    let array = |&i: &usize| {
        let name = names[i].as_deref().unwrap_or_default();
        let null = match types[i] {
            Type::Text => type_inference::NULL_TEXT,
            _ => type_inference::NULL,
        };
        let nulls = scanned.classes[i] & null != 0;
        let valued = scanned.classes[i] & !(type_inference::NULL | type_inference::NULL_TEXT) != 0;
        let details = if valued || typed(i) { details.clone() } else { untyped.clone() };
        ArrayMeta { nulls, details, ..types[i].column(name, Some(scanned.rows)) }
    };
    kept.iter().map(array).collect()
}

/// A type that `--dtype` asks for, and whether it does so by the name of the column.
type Asked = Option<(bool, Dtype)>;

/// A column as the scan takes it.
fn column(mode: Mode, asked: Asked, dialect: &Dialect, lossy: bool) -> Column {
    let mut column = Column::new(mode);
    let forced = asked.is_some_and(|(by_name, dtype)| by_name && dtype != Dtype::Bool);
    column.zeros = dialect.zeros || forced;
    column.numbers_only = dialect.numbers_only || forced;
    column.single = asked.is_some_and(|(_, dtype)| dtype == Dtype::F32);
    column.lossy = lossy && asked.is_some_and(|(_, d)| d.is_float() || d.is_complex());
    column
}

/// The columns of these names as the scan takes them, and the types that are asked for.
fn columns(
    modes: Vec<Mode>,
    names: &[&str],
    text: &TextOptions,
    dialect: &Dialect,
) -> (Vec<Column>, Vec<Asked>) {
    if let Some(held) = text.held.as_ref().filter(|plan| plan.arrays.len() == names.len()) {
        let columns = modes.into_iter().zip(held.arrays.iter());
        let columns = columns.map(|(mode, array)| held_column(mode, array, dialect)).collect();
        return (columns, held.arrays.iter().map(|a| Some((false, a.dtype))).collect());
    }
    let asked = asked_dtypes(&text.dtypes, names);
    let columns = modes.into_iter().zip(&asked).zip(named(&text.as_text, names));
    let columns = columns.map(|((mode, &asked), as_text)| match as_text {
        true => Column { text_only: mode != Mode::Skip, ..Column::new(mode) },
        false => column(mode, asked, dialect, text.lossy),
    });
    (columns.collect(), asked)
}

/// A column that was written of this array.
fn held_column(mode: Mode, array: &ArrayMeta, dialect: &Dialect) -> Column {
    if array.logical.is_plain() {
        return column(mode, Some((false, array.dtype)), dialect, false);
    }
    Column { text_only: mode != Mode::Skip, ..Column::new(mode) }
}

/// The type that the values have, in the width that was asked for.
fn narrowed(found: Type, asked: Asked) -> Type {
    match (found, asked) {
        (Type::Float64, Some((_, Dtype::F32))) => Type::Float32,
        (Type::Float64, Some((_, Dtype::F16))) => Type::Float16,
        (Type::Complex128, Some((_, Dtype::C64))) => Type::Complex64,
        (other, _) => other,
    }
}

/// The error of a column that must hold numbers of one type.
fn mixed_numbers(asked: bool, dialect: &Dialect) -> Error {
    let error = Error::refused(
        "the column holds numbers that no one type can hold exactly, or booleans among numbers",
    );
    match asked {
        true => error.hint("--lossy lets --dtype float64 round them"),
        false => hinted(error, dialect),
    }
}

fn hinted(error: Error, dialect: &Dialect) -> Error {
    if error.hint_text().is_some()
        || !dialect.numbers_only
        || error.kind() != crate::error::ErrorKind::Refused
    {
        return error;
    }
    error.hint("--skip-header N skips a heading, --header yes takes it as names, --header no allows text columns; --null-values gives the words for missing values")
}

/// What the first row shows.
struct Head {
    /// The arrays' names, perhaps repeated.
    names: Vec<String>,
    /// The names as the file spells them.
    headers: Vec<String>,
    /// Where the rows begin.
    rows_at: u64,
}

fn read_head(input: &Input, options: &ReadOptions, flavor: &Flavor, start: u64) -> Result<Head> {
    let text = &options.text;
    let dialect = &flavor.dialect;
    let most = scan::row_bytes_max(options.resources.memory_bytes());
    let mut splitter = Splitter::new(input.blob.as_ref(), dialect, start, 64 << 10, most);
    let mut block = Vec::new();
    let (offset, row) = loop {
        match splitter.next(&mut block)? {
            None => return no_rows(text, flavor, input.blob.len()),
            Some((_, offset)) => {
                let row = dialect.row_start(&block, 0);
                if row < block.len() {
                    break (offset, row);
                }
            }
        }
    };
    let (cells, next) = dialect::cells(dialect, &block, row, MAX_COLUMNS + 1);
    if cells.len() > MAX_COLUMNS {
        let message = format!("the first row has more than {MAX_COLUMNS} cells");
        return Err(lines::at_line(
            input.blob.as_ref(),
            offset + row as u64,
            Error::refused(message),
        ));
    }
    if input.cut && next >= block.len() && splitter.next(&mut Vec::new())?.is_none() {
        return Err(Error::refused("the first row is too long to be a header"));
    }
    if flavor.check_delimiter && text.delimiter.is_none() && text.held.is_none() {
        let whole = offset + block.len() as u64 >= input.blob.len() && !input.cut;
        delimiter_check::other_delimiter(
            dialect,
            &delimiter_check::Sample { text: &block[row..], whole },
        )?;
    }
    if let Some((i, broken)) = cells.iter().enumerate().find_map(|(i, c)| Some((i, c.broken?))) {
        let error = parse::broken_cell(&block, cells[i], broken);
        let fault = parse::Fault { at: cells[i].start, error }.in_column(i + 1);
        return Err(lines::at_line(input.blob.as_ref(), offset + fault.at as u64, fault.error));
    }
    let first: Vec<_> = cells.iter().map(|&c| dialect.content(&block, c)).collect();
    let header = has_header(text, flavor, &first);
    if header
        && text.header == Auto::Auto
        && text.held.is_none()
        && dialect.reader.decimal() == b'.'
        && dialect.delimiter != Some(b',')
    {
        delimiter_check::no_decimal_commas(first.iter().map(AsRef::as_ref))?;
    }
    let mut headers = match header {
        true => column_headers(&first)?,
        false => vec![String::new(); first.len()],
    };
    if let Some(names) = &text.column_names {
        if names.len() != first.len() {
            return Err(Error::usage(format!(
                "{} column names are given, the first row has {} cells",
                names.len(),
                first.len()
            )));
        }
        headers.clone_from(names);
    }
    let names = headers
        .iter()
        .enumerate()
        .map(|(i, h)| if h.is_empty() { format!("col{i}") } else { h.clone() })
        .collect();
    // Blank lines before the first row that is no header may be rows, too.
    Ok(Head { names, headers, rows_at: if header { offset + next as u64 } else { start } })
}

/// Whether the first row is a header.
fn has_header<C: AsRef<[u8]>>(text: &TextOptions, flavor: &Flavor, first: &[C]) -> bool {
    match (text.header, &text.held) {
        (Auto::Yes, _) => true,
        (Auto::No, _) => false,
        (Auto::Auto, Some(held)) => {
            flavor.header && sink::headers(held).iter().any(|header| !header.is_empty())
        }
        (Auto::Auto, None) => {
            let reader = &flavor.dialect.reader;
            let is_number = |cell: &[u8]| cell.is_empty() || reader.is_number(cell.trim_ascii());
            flavor.header && !first.iter().all(|cell| is_number(cell.as_ref()))
        }
    }
}

/// The head of a text without any row.
fn no_rows(text: &TextOptions, flavor: &Flavor, end: u64) -> Result<Head> {
    let names = match &text.column_names {
        Some(names) => names.clone(),
        None if flavor.header => {
            return Err(Error::corrupt("the file is empty: there is not even a header"));
        }
        None => vec!["col0".to_string()],
    };
    Ok(Head { headers: vec![String::new(); names.len()], names, rows_at: end })
}

/// The cells of a header as names.
fn column_headers<C: AsRef<[u8]>>(cells: &[C]) -> Result<Vec<String>> {
    let name = |(i, cell): (usize, &C)| {
        std::str::from_utf8(cell.as_ref()).map(str::to_string).map_err(|_| {
            Error::corrupt(format!("the name of column {} is not UTF-8", i + 1))
                .hint("convert the file first, for example: iconv -f latin1 -t utf-8")
        })
    };
    cells.iter().enumerate().map(name).collect()
}

/// Which columns are arrays that are chosen.
fn wanted(options: &ReadOptions, names: &[Option<String>], shown: &[&str]) -> Vec<bool> {
    let chosen = options.choice.as_ref().map(|choice| choice.of(shown));
    let is_chosen = |i: usize| chosen.as_ref().is_none_or(|chosen| chosen[i]);
    (0..names.len()).map(|i| names[i].is_some() && is_chosen(i)).collect()
}

/// The type asked for each column, and whether by its name.
fn asked_dtypes(dtypes: &[(Option<String>, Dtype)], names: &[&str]) -> Vec<Asked> {
    let for_all = dtypes
        .iter()
        .rev()
        .find(|(pattern, _)| pattern.is_none())
        .map(|(_, dtype)| (false, *dtype));
    let mut asked = vec![for_all; names.len()];
    for (pattern, dtype) in dtypes {
        let Some(pattern) = pattern else { continue };
        asked
            .iter_mut()
            .zip(named(std::slice::from_ref(pattern), names))
            .filter(|(_, chosen)| *chosen)
            .for_each(|(asked, _)| *asked = Some((true, *dtype)));
    }
    asked
}

/// The columns that one of these patterns means.
fn named(patterns: &[String], names: &[&str]) -> Vec<bool> {
    if patterns.is_empty() {
        return vec![false; names.len()];
    }
    Choice { include: patterns.to_vec(), exclude: Vec::new() }.of(names)
}

/// Columns of numbers take the type that numpy would give the whole, where that changes no value.
fn one_type(types: &mut [Type], classes: &[type_inference::Classes]) {
    let widest = if types.contains(&Type::Complex128) { Type::Complex128 } else { Type::Float64 };
    let mixed = types.contains(&widest) && types.iter().any(|&t| t != widest);
    let numbers = types
        .iter()
        .all(|t| matches!(t, Type::Int64 | Type::Uint64 | Type::Float64 | Type::Complex128));
    if mixed && numbers && classes.iter().all(|c| c & type_inference::UNSAFE == 0) {
        types.fill(widest);
    }
}

struct TextSource {
    plan: Plan,
    reader: Option<Arc<Reader>>,
}

impl Source for TextSource {
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn select(&self, arrays: &[usize], _wish: Order) -> Result<format::Reader> {
        let Some(reader) = &self.reader else {
            return Err(Error::internal("only names were read"));
        };
        if let Some(&a) = arrays.iter().find(|&&a| reader.skipped[a]) {
            return Err(Error::internal("the column was not asked for when the table was opened")
                .array(&self.plan.arrays[a].name));
        }
        Ok(format::Reader::Random(reader.clone()))
    }
}
