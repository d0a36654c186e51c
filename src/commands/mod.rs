//! The commands: arguments → settings → calls.

use crate::cli::{self, Cli, Command, ReadArgs};
use crate::console::{self, Console, Progress};
use crate::detect::{self, Detected};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::{
    Auto, Choice, Dequantize, Format, OnDuplicate, Quote, RawOptions, ReadOptions, Resources,
    TextOptions,
};
use crate::model::ArrayMeta;
use crate::pipe::{Flow, fold, nested};
use crate::resolve::{inside, names};
use crate::sidecar;
use crate::storage::Location;

pub mod certificate;
pub mod checksum;
pub mod colors;
pub mod complete;
pub mod convert;
pub mod diff;
pub mod edit;
pub mod formats;
pub mod generate;
pub mod heat;
pub mod html;
pub mod inspect;
pub mod list;
pub mod look;
pub mod profile;
pub mod report;
pub mod tree;
pub mod verify;

/// Runs a command; returns the exit code.
pub fn run(mut cli: Cli) -> u8 {
    crate::storage::raise_file_limit();
    without_auto(&mut cli.command);
    if !matches!(cli.command, Command::List(_) | Command::Inspect(_)) {
        without_huge_pages();
    }
    let messages = match &cli.command {
        Command::Convert(a) => a.messages.clone(),
        Command::List(a) => a.messages.clone(),
        Command::Inspect(a) => a.messages.clone(),
        Command::Diff(a) => a.messages.clone(),
        Command::Verify(a) => a.messages.clone(),
        Command::Edit(a) => a.messages.clone(),
        Command::Report(a) => a.messages.clone(),
        _ => Default::default(),
    };
    let console = Console::new(&messages);
    let result = crate::error::guard(|| match cli.command {
        Command::Convert(args) => convert::run(&args, console, convert::Hooks::default()),
        Command::List(args) => list::run(&args, console),
        Command::Inspect(args) => inspect::run(&args, console),
        Command::Diff(args) => diff::run(&args, console),
        Command::Verify(args) => verify::run(&args, console),
        Command::Edit(args) => edit::run(&args, console),
        Command::Report(args) => report::run(&args, console),
        Command::Formats(args) => formats::run(&args),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { dir } => generate::man(dir.as_deref()),
        Command::Generate { dir } => generate::all(&dir),
    });
    match result {
        Ok(code) => code,
        Err(e) => {
            console.error(&e);
            console::exit_code(&e)
        }
    }
}

/// `auto` as a format is what is done where none is given.
fn without_auto(command: &mut Command) {
    let forget = |name: &mut Option<String>| {
        *name = name.take().filter(|name| !name.eq_ignore_ascii_case("auto"))
    };
    match command {
        Command::Convert(a) => {
            forget(&mut a.read.from);
            forget(&mut a.to);
        }
        Command::List(a) => forget(&mut a.read.from),
        Command::Inspect(a) => forget(&mut a.read.from),
        Command::Diff(a) => forget(&mut a.read.from),
        Command::Verify(a) => forget(&mut a.read.from),
        _ => {}
    }
}

/// Huge pages make a look at many names faster, but all of one counts as held where little of it is
/// used: what moves data within a memory limit does without.
fn without_huge_pages() {
    // SAFETY: a setting of this process, which an older kernel may refuse.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// A name or URL on the command line, as the location of an input.
///
/// # Errors
/// Usage: a URL that cannot be.
pub fn input_location(text: &str, args: &ReadArgs) -> Result<Location> {
    if text == "-" {
        return Ok(Location::stdio());
    }
    match remote_location(text, args)? {
        Some(location) => Ok(location),
        None => Location::input(plain_path(text)?),
    }
}

/// The same for a source that is looked at again, or before it is opened: what is known of it is
/// not asked again, and a FIFO is not opened, whose writer would see it closed again.
///
/// # Errors
/// As above.
pub fn known_location(text: &str, args: &ReadArgs) -> Result<Location> {
    #[cfg(feature = "remote")]
    if crate::storage::remote::is_url(text) {
        return crate::storage::remote::locate(text, &remote_options(args)?);
    }
    #[cfg(not(feature = "remote"))]
    let _ = args;
    Ok(Location::local(plain_path(text)?))
}

/// A name or URL of the command line to show: passwords and signatures in URLs are masked.
pub fn shown(text: &str) -> String {
    #[cfg(feature = "remote")]
    if text.contains("://")
        && !["s3://", "gs://", "az://", "file://"].iter().any(|scheme| text.starts_with(scheme))
    {
        return crate::storage::remote::display(text);
    }
    text.to_string()
}

/// As [`input_location`], for an output.
///
/// # Errors
/// As above.
pub fn output_location(text: &str, args: &ReadArgs) -> Result<Location> {
    if matches!(text, "-" | "/dev/stdout") {
        return Ok(Location::stdio());
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(Error::usage("http:// and https:// can be read, not written")
            .file(shown(text))
            .hint("write to s3://, gs:// or az://"));
    }
    Ok(match remote_location(text, args)? {
        Some(location) => location,
        None => Location::local(plain_path(text)?),
    })
}

/// A local path, without `file://`.
fn plain_path(text: &str) -> Result<&str> {
    if let Some(path) = text.strip_prefix("file://") {
        return Ok(path);
    }
    match text.split_once("://") {
        Some((scheme, _))
            if scheme.len() > 1
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
                && !std::path::Path::new(text).exists() =>
        {
            let error = Error::usage(format!("{scheme}:// is not supported")).file(shown(text));
            Err(error.hint("supported are s3://, gs://, az://, http:// and https://"))
        }
        _ => Ok(text),
    }
}

#[cfg(feature = "remote")]
fn remote_location(text: &str, args: &ReadArgs) -> Result<Option<Location>> {
    use crate::storage::remote;
    if !remote::is_url(text) {
        return Ok(None);
    }
    remote::open(text, &remote_options(args)?).map(Some)
}

/// The remote flags as the location layer takes them.
///
/// # Errors
/// Usage: sizes.
#[cfg(feature = "remote")]
pub fn remote_options(args: &ReadArgs) -> Result<crate::storage::remote::RemoteOptions> {
    let r = &args.remote;
    Ok(crate::storage::remote::RemoteOptions {
        profile: r.profile.clone(),
        region: r.region.clone(),
        endpoint_url: r.endpoint_url.clone(),
        no_sign_request: r.no_sign_request,
        no_verify_ssl: r.no_verify_ssl,
        ca_bundle: r.ca_bundle.clone(),
        request_payer: r.request_payer,
        virtual_addressing: r.addressing.map(|a| a == cli::Addressing::Virtual),
        retries: r.retries,
        memory_bytes: memory_bytes(args)?,
    })
}

#[cfg(not(feature = "remote"))]
fn remote_location(text: &str, _args: &ReadArgs) -> Result<Option<Location>> {
    match ["s3://", "gs://", "az://", "http://", "https://"].iter().any(|s| text.starts_with(s)) {
        true => Err(Error::refused("this build of npk has no remote access").file(text)),
        false => Ok(None),
    }
}

/// How inputs are read, from the flags.
///
/// # Errors
/// Usage: sizes, separators.
pub fn read_options(args: &ReadArgs) -> Result<ReadOptions> {
    Ok(ReadOptions {
        group: args.group.clone(),
        text: text_options(args)?,
        raw: raw_options(args)?,
        dequantize: Dequantize::No,
        resources: resources(args)?,
        shows_looks: false,
        names_only: false,
        types_only: false,
        skip_unsupported: false,
        follow_external: args.follow_external,
        on_duplicate: match args.on_duplicate {
            cli::OnDuplicate::Error => OnDuplicate::Error,
            cli::OnDuplicate::Rename => OnDuplicate::Rename,
            cli::OnDuplicate::First => OnDuplicate::First,
            cli::OnDuplicate::Last => OnDuplicate::Last,
        },
        whole_structs: false,
        choice: None,
    })
}

/// As [`read_options`], for commands that cast nothing: `--dtype` is what a raw file holds.
///
/// # Errors
/// Usage.
pub fn read_options_typed(args: &ReadArgs, raw: &cli::RawTypeArgs) -> Result<ReadOptions> {
    let mut options = read_options(args)?;
    if raw.dtype.is_some() && !is_raw(args) {
        return Err(Error::usage("--dtype says what a raw file holds").hint("add --from raw"));
    }
    options.raw.dtype.clone_from(&raw.dtype);
    Ok(options)
}

/// Whether the input is said to be raw.
pub fn is_raw(args: &ReadArgs) -> bool {
    args.from.as_deref().is_some_and(|from| from.eq_ignore_ascii_case("raw"))
}

/// `--shape`, `--offset`, `--order`.
fn raw_options(args: &ReadArgs) -> Result<RawOptions> {
    let given = [
        ("--shape", args.shape.is_some()),
        ("--offset", args.offset.is_some()),
        ("--order", args.order.is_some()),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, given)| *given && !is_raw(args)) {
        return Err(Error::usage(format!("{flag} says what a raw file holds"))
            .hint("add --from raw and --dtype"));
    }
    let shape = args.shape.as_deref().map(raw_shape).transpose()?;
    let fortran = args.order == Some(cli::ElementOrder::F);
    Ok(RawOptions { dtype: None, shape, offset: args.offset.unwrap_or(0), fortran })
}

/// `--shape`: sizes, one of which may be -1.
fn raw_shape(text: &str) -> Result<Vec<Option<u64>>> {
    let size = |part: &str| match part.trim() {
        "-1" => Some(None),
        number => number.parse::<u64>().ok().map(Some),
    };
    let shape: Option<Vec<_>> = text.split([',', 'x']).map(size).collect();
    shape.filter(|dims| dims.iter().filter(|d| d.is_none()).count() <= 1).ok_or_else(|| {
        Error::usage(format!("'{text}' is not a shape"))
            .hint("sizes separated by commas, of which one may be -1: -1,28,28")
    })
}

/// `--jobs`, or the cores.
pub fn jobs(args: &ReadArgs) -> usize {
    args.jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
        .clamp(1, 1024)
}

/// `--memory-limit`.
fn memory_bytes(args: &ReadArgs) -> Result<u64> {
    const LEAST: u64 = 1 << 20;
    let bytes = console::parse_bytes(&args.memory_limit)?;
    if bytes < LEAST {
        let error = Error::usage(format!(
            "--memory-limit {} is {bytes} bytes, the least is 1MiB",
            args.memory_limit
        ));
        return Err(error.hint("write it as 256MiB or 4GB"));
    }
    Ok(bytes)
}

/// Threads and memory of the run.
///
/// # Errors
/// Usage: sizes.
pub fn resources(args: &ReadArgs) -> Result<Resources> {
    Ok(Resources::new(jobs(args), memory_bytes(args)?))
}

fn text_options(args: &ReadArgs) -> Result<TextOptions> {
    let byte = |flag: &str, value: &Option<String>| -> Result<Option<u8>> {
        let Some(text) = value else { return Ok(None) };
        let text = match text.as_str() {
            "\\t" | "tab" => "\t",
            "space" => " ",
            other => other,
        };
        match text.as_bytes() {
            [b] if b.is_ascii() => Ok(Some(*b)),
            _ => Err(Error::usage(format!("--{flag} takes one ASCII character, not '{text}'"))
                .hint("'\\t' stands for a tab")),
        }
    };
    Ok(TextOptions {
        header: match args.header {
            cli::Header::Auto => Auto::Auto,
            cli::Header::Yes => Auto::Yes,
            cli::Header::No => Auto::No,
        },
        column_names: column_names(args)?,
        delimiter: byte("delimiter", &args.delimiter)?
            .or_else(|| detect::delimiter_named(args.from.as_deref())),
        skip_rows: args.skip_rows,
        max_rows: args.max_rows,
        comment: byte("comment", &args.comment)?,
        quote: match args.quote.as_deref() {
            Some("none" | "") => Quote::None,
            _ => byte("quote", &args.quote)?.map_or(Quote::Usual, Quote::Byte),
        },
        trim: args.trim,
        null_values: args.null_values.as_ref().map(|n| n.split(',').map(str::to_string).collect()),
        decimal: byte("decimal", &args.decimal)?,
        float_format: None,
        dtypes: Vec::new(),
        lossy: false,
    })
}

/// `--column-names`.
fn column_names(args: &ReadArgs) -> Result<Option<Vec<String>>> {
    let Some(text) = &args.column_names else { return Ok(None) };
    let names: Vec<String> = text.split(',').map(str::to_string).collect();
    let mut seen = std::collections::HashSet::new();
    let repeated = names.iter().find(|name| !seen.insert(name.as_str()));
    match repeated.filter(|_| args.on_duplicate == cli::OnDuplicate::Error) {
        Some(name) => Err(Error::usage(format!("--column-names gives the name '{name}' twice"))
            .hint(crate::format::duplicates::HINT)),
        None => Ok(Some(names)),
    }
}

/// An opened input.
pub struct Opened {
    /// Its format.
    pub format: &'static dyn Format,
    /// Its arrays.
    pub flow: Flow,
}

/// Detects and opens an input.
///
/// # Errors
/// Missing, refused, corrupt; with the file's name.
pub fn open(
    at: &Location,
    from: Option<&str>,
    options: &ReadOptions,
    console: Console,
) -> Result<Opened> {
    let display = at.display();
    let Detected { format, warning, at, coding } = match from {
        Some(name) => detect::input_named(name, at).at_file(&display)?,
        None => detect::input(at)?,
    };
    if let Some(warning) = warning {
        console.warning(&format!("{display}: {warning}"));
    }
    if at.is_stream() && !format.spec().streams.input && !at.is_rereadable() {
        console.detail(&match coding {
            Some(coding) => {
                let (coding, format) = (coding.name(), format.spec().name);
                format!("{display}: {coding} is unpacked into a temporary file, since {format} needs random access")
            }
            None => format!("{display}: {} needs random access: spooled to a temporary file", format.spec().name),
        });
    }
    if at.is_remote() && ((format.spec().copies_remote)(options) || at.is_copied()) {
        console.detail(&format!(
            "{display}: {} is copied to a temporary file first",
            format.spec().name
        ));
    }
    // A stream's first bytes can be looked at only before it is read.
    let head = if at.is_stream() { Some(at.head(4096)?) } else { None };
    // A look that takes long is shown, as long as nothing else is.
    let bar = Progress::new(0, &display, options.shows_looks);
    let resources = options.resources.with_progress(bar.look_callback());
    let watched = ReadOptions { resources, ..options.clone() };
    let opened = crate::error::guard(|| format.open(&at, &watched));
    bar.end();
    let mut source =
        opened.map_err(|e| detect::explained(e, format, &at, head)).at_file(&display)?;
    if format.spec().keeps_types {
        source = fold::fold(source);
    }
    source = nested::together(source, options.choice.as_ref());
    let mut flow = Flow::from(source);
    if format.spec().keeps_types {
        let mut plan = flow.plan().clone();
        sidecar::unmark_tables(&mut plan);
        flow = flow.relabel(plan);
    }
    let flow = match &options.group {
        Some(group) if !format.spec().has_groups => grouped(flow, group).at_file(&display)?,
        _ => flow,
    };
    Ok(Opened { format, flow })
}

/// The damage of arrays that can be listed all the same; refused ones are none.
pub fn damaged<'a>(arrays: impl Iterator<Item = &'a ArrayMeta>, at: &Location) -> Vec<Error> {
    let errors = arrays.filter_map(|a| Some((a, a.details.error.as_deref()?)));
    errors
        .filter(|(_, e)| e.kind() == ErrorKind::Corrupt)
        .map(|(a, e)| e.clone().with_array(&a.name).file(at.display()))
        .collect()
}

/// `--group` where the format knows no groups: the arrays called `GROUP/…` or `GROUP.…`, under the
/// rest of their names.
fn grouped(flow: Flow, group: &str) -> Result<Flow> {
    let path = group.trim_matches('/');
    if path.is_empty() {
        return Ok(flow);
    }
    let rest = |name: &str| -> Option<String> {
        let rest = name.trim_start_matches('/').strip_prefix(path)?;
        rest.strip_prefix('/')
            .or_else(|| rest.strip_prefix('.'))
            .filter(|r| !r.is_empty())
            .map(str::to_string)
    };
    let plan = flow.plan();
    let (indices, mut new): (Vec<usize>, Vec<String>) =
        plan.arrays.iter().enumerate().filter_map(|(i, a)| Some((i, rest(&a.name)?))).unzip();
    if indices.is_empty() {
        let error = Error::missing(format!(
            "there is no group '{group}': no array is called {path}/… or {path}.…"
        ));
        return Err(error.hint("npk inspect --tree shows the names"));
    }
    let flow = flow.choose(&indices);
    let mut plan = flow.plan().clone();
    names::make_unique(&mut new, OnDuplicate::Rename)?;
    names::set_names(&mut plan, &new);
    let below = format!("{path}/");
    if let Some(attributes) = plan.groups.get(path) {
        plan.attributes.clone_from(attributes);
    }
    plan.groups = plan
        .groups
        .iter()
        .filter_map(|(k, v)| Some((k.strip_prefix(&below)?.to_string(), v.clone())))
        .collect();
    Ok(flow.relabel(plan))
}

/// Tells the source which arrays will be chosen, so that it need not look at the others.
pub fn choosing(options: &ReadOptions, choose: &cli::ChooseArgs) -> ReadOptions {
    // Below a group the names are shorter than in the file.
    let named = options.group.is_none() && !(choose.array.is_empty() && choose.exclude.is_empty());
    let choice =
        named.then(|| Choice { include: choose.array.clone(), exclude: choose.exclude.clone() });
    ReadOptions { choice, ..options.clone() }
}

/// The chosen arrays, and parts of nested ones.
///
/// # Errors
/// As [`inside::choose`].
pub fn chosen(flow: Flow, choose: &cli::ChooseArgs) -> Result<Flow> {
    let step = inside::choose(flow.plan(), &choose.array, &choose.exclude)?;
    Ok(flow.then(step))
}
