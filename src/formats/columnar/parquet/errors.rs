//! Errors of the `parquet` crate.

use parquet::errors::ParquetError;

use crate::error::Error;

/// An error of the `parquet` crate: the bytes break the format, or need what it lacks.
pub(super) fn crate_error(e: ParquetError) -> Error {
    use ParquetError as P;
    if let Some(ours) = Error::carried_by(&e) {
        return ours;
    }
    match e {
        P::NYI(what) => Error::refused(format!("not supported: {what}")),
        P::External(inner) => {
            let text = inner.to_string();
            let mut what = text.as_str();
            while let Some(rest) = ["External: ", "Parquet argument error: ", "Parquet error: "]
                .iter()
                .find_map(|p| what.strip_prefix(p))
            {
                what = rest;
            }
            // Decoders give their errors as those of reading; what the system says of writing is no
            // damage.
            match inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
                Some(code) => std::io::Error::from_raw_os_error(code).into(),
                None => Error::corrupt(format!("the bytes cannot be decoded ({what})")),
            }
        }
        P::EOF(what) => Error::corrupt(format!("the bytes end too early ({})", what.trim())),
        P::General(what)
            if what.starts_with("Disabled feature")
                || what.contains("LZO")
                || what.contains("not supported") =>
        {
            Error::refused(format!("not supported: {what}"))
        }
        P::General(what) => Error::corrupt(format!("the bytes cannot be decoded ({what})")),
        P::ArrowError(what) => Error::corrupt(format!("the values cannot be decoded ({what})")),
        other => Error::corrupt(format!("the bytes cannot be decoded ({other})")),
    }
}

/// An error of ours inside the crate's.
pub(super) fn wrapped(e: Error) -> ParquetError {
    ParquetError::External(Box::new(std::io::Error::other(e)))
}
