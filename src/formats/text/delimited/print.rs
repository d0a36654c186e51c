//! Numbers as text that reads back exactly.

use crate::error::{Error, Result};

/// How special values are spelled.
#[derive(Clone)]
pub struct Numbers {
    /// A NaN.
    pub nan: &'static str,
    /// The decimal sign.
    pub decimal: u8,
    /// In place of the shortest text.
    pub format: Option<Printf>,
}

/// A float type: its shortest digits.
pub trait Real: Copy {
    /// As a double, exactly.
    fn double(self) -> f64;
    /// The shortest text that reads back as the same value of this type.
    fn shortest(self, out: &mut Vec<u8>);
}

impl Real for f64 {
    fn double(self) -> f64 {
        self
    }
    #[inline]
    fn shortest(self, out: &mut Vec<u8>) {
        out.extend_from_slice(zmij::Buffer::new().format_finite(self).as_bytes());
    }
}

impl Real for f32 {
    fn double(self) -> f64 {
        f64::from(self)
    }
    #[inline]
    fn shortest(self, out: &mut Vec<u8>) {
        out.extend_from_slice(zmij::Buffer::new().format_finite(self).as_bytes());
    }
}

impl Real for half::f16 {
    fn double(self) -> f64 {
        f64::from(self)
    }
    fn shortest(self, out: &mut Vec<u8>) {
        // Five significant digits tell every float16 apart; fewer often do.
        let value = f64::from(self);
        for digits in 0..5 {
            let text = format!("{value:.digits$e}");
            if text.parse::<f64>().is_ok_and(|v| half::f16::from_f64(v) == self)
                && let Ok(short) = text.parse::<f64>()
            {
                return short.shortest(out);
            }
        }
        value.shortest(out);
    }
}

impl Numbers {
    /// A real number.
    #[inline]
    pub fn real<T: Real>(&self, value: T, out: &mut Vec<u8>) {
        let double = value.double();
        let from = out.len();
        if let Some(format) = &self.format {
            format.print(double, out);
        } else if double.is_finite() {
            value.shortest(out);
        } else {
            out.extend_from_slice(self.special(double).as_bytes());
        }
        if self.decimal != b'.' {
            for b in &mut out[from..] {
                if *b == b'.' {
                    *b = self.decimal;
                }
            }
        }
    }

    fn special(&self, value: f64) -> &'static str {
        match (value.is_nan(), value < 0.0) {
            (true, _) => self.nan,
            (false, true) => "-inf",
            (false, false) => "inf",
        }
    }

    /// A complex number as numpy writes it: `(1+2j)`.
    pub fn complex<T: Real>(&self, real: T, imaginary: T, out: &mut Vec<u8>) {
        out.push(b'(');
        self.part(real, out);
        let double = imaginary.double();
        let from = out.len();
        self.part(imaginary, out);
        if double.is_nan() || !matches!(out[from], b'-' | b'+') {
            out.insert(from, b'+');
        }
        out.extend_from_slice(b"j)");
    }

    /// A part of a complex number, without blanks and a needless `.0`.
    fn part<T: Real>(&self, value: T, out: &mut Vec<u8>) {
        let from = out.len();
        self.real(value, out);
        if out[from..].contains(&b' ') {
            let text = out[from..].trim_ascii().to_vec();
            out.truncate(from);
            out.extend(text);
        }
        if self.format.is_none() && out.len() > from + 2 && out.ends_with(&[self.decimal, b'0']) {
            out.truncate(out.len() - 2);
        }
    }
}

/// An integer.
#[inline]
pub fn integer<I: itoa::Integer>(value: I, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A printf-like format of one number, as `numpy.savetxt` takes it.
#[derive(Clone, Debug, Default)]
pub struct Printf {
    before: String,
    after: String,
    minus: bool,
    plus: bool,
    blank: bool,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    conversion: u8,
}

impl Printf {
    /// Parses `%.6e`, `%10.3f`, `%g` and the like; text around them is kept.
    ///
    /// # Errors
    /// Usage.
    pub fn parse(text: &str) -> Result<Printf> {
        let wrong = |why: &str| {
            Error::usage(format!("'{text}' is not a float format: {why}"))
                .hint("as in printf, one of %e %f %g %d with flags, width and precision: %.6e")
        };
        let (mut before, mut after) = (String::new(), String::new());
        let mut found: Option<Printf> = None;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let around = if found.is_some() { &mut after } else { &mut before };
            if c != '%' {
                around.push(c);
                continue;
            }
            if chars.peek() == Some(&'%') {
                chars.next();
                around.push('%');
                continue;
            }
            if found.is_some() {
                return Err(wrong("it has two conversions"));
            }
            let mut format = Printf { conversion: b'g', ..Printf::default() };
            while let Some(&flag) = chars.peek() {
                match flag {
                    '-' => format.minus = true,
                    '+' => format.plus = true,
                    ' ' => format.blank = true,
                    '0' => format.zero = true,
                    '#' => format.alternate = true,
                    _ => break,
                }
                chars.next();
            }
            let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
                let mut n = 0usize;
                while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                    n = (n * 10 + d as usize).min(10_000);
                    chars.next();
                }
                n
            };
            format.width = number(&mut chars);
            if chars.peek() == Some(&'.') {
                chars.next();
                format.precision = Some(number(&mut chars));
            }
            if format.width > 500 || format.precision.is_some_and(|p| p > 500) {
                return Err(wrong("more than 500 places"));
            }
            while matches!(chars.peek(), Some('l' | 'h' | 'L')) {
                chars.next();
            }
            format.conversion = match chars.next() {
                Some(c @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'd' | 'i')) => c as u8,
                Some('s' | 'r') if format.precision.is_none() => b's',
                Some(c) => return Err(wrong(&format!("%{c} is not known"))),
                None => return Err(wrong("it ends too early")),
            };
            found = Some(format);
        }
        let Some(mut format) = found else { return Err(wrong("it has no %")) };
        format.before = before;
        format.after = after;
        Ok(format)
    }

    /// Prints a value.
    pub fn print(&self, value: f64, out: &mut Vec<u8>) {
        let upper = self.conversion.is_ascii_uppercase();
        let magnitude = value.abs();
        let mut body = if value.is_nan() {
            "nan".to_string()
        } else if value.is_infinite() {
            "inf".to_string()
        } else {
            let precision = self.precision.unwrap_or(6);
            match self.conversion.to_ascii_lowercase() {
                b'e' => self.exponential(magnitude, precision),
                b'f' => self.pointed(format!("{magnitude:.precision$}"), precision),
                b'g' => self.general(magnitude, precision.max(1)),
                b's' => {
                    let mut text = Vec::new();
                    magnitude.shortest(&mut text);
                    String::from_utf8_lossy(&text).into_owned()
                }
                _ => format!("{:.0}", magnitude.trunc()),
            }
        };
        if upper {
            body = body.to_uppercase();
        }
        let whole = matches!(self.conversion, b'd' | b'i');
        let negative =
            if whole { value.trunc() < 0.0 } else { value.is_sign_negative() && !value.is_nan() };
        let sign = match (negative, self.plus, self.blank) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            (false, false, false) => "",
        };
        let pad = self.width.saturating_sub(sign.len() + body.len());
        let spaces = |n: usize| std::iter::repeat_n(b' ', n);
        out.extend_from_slice(self.before.as_bytes());
        if self.minus {
            out.extend_from_slice(sign.as_bytes());
            out.extend_from_slice(body.as_bytes());
            out.extend(spaces(pad));
        } else if self.zero {
            out.extend_from_slice(sign.as_bytes());
            out.extend(std::iter::repeat_n(b'0', pad));
            out.extend_from_slice(body.as_bytes());
        } else {
            out.extend(spaces(pad));
            out.extend_from_slice(sign.as_bytes());
            out.extend_from_slice(body.as_bytes());
        }
        out.extend_from_slice(self.after.as_bytes());
    }

    fn pointed(&self, text: String, precision: usize) -> String {
        if self.alternate && precision == 0 { text + "." } else { text }
    }

    /// `d.ddde±XX`, the exponent with two digits at least.
    fn exponential(&self, value: f64, precision: usize) -> String {
        let text = format!("{value:.precision$e}");
        let (significand, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", self.pointed(significand.to_string(), precision), exponent.abs())
    }

    fn general(&self, value: f64, precision: usize) -> String {
        let text = format!("{value:.*e}", precision - 1);
        let exponent: i32 = text.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
        let trim = |text: String| {
            if self.alternate || !text.contains('.') {
                text
            } else {
                text.trim_end_matches('0').trim_end_matches('.').to_string()
            }
        };
        if (-4..precision as i32).contains(&exponent) {
            return trim(format!("{value:.*}", (precision as i32 - 1 - exponent) as usize));
        }
        let text = self.exponential(value, precision - 1);
        match text.split_once('e') {
            Some((significand, exponent)) => {
                format!("{}e{exponent}", trim(significand.to_string()))
            }
            None => text,
        }
    }
}
