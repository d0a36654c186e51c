//! The colours of heat maps, in terminals and in pages.

use super::profile::heat::{INFINITE, NAN, NULL, Scale};

/// Red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

/// From dark to bright, as different to those who do not tell colours apart (viridis).
pub const RISING: [Rgb; 7] = [
    Rgb(68, 1, 84),
    Rgb(68, 57, 131),
    Rgb(49, 104, 142),
    Rgb(33, 145, 140),
    Rgb(53, 183, 121),
    Rgb(144, 215, 67),
    Rgb(253, 231, 37),
];

/// Blue below 0, red above it.
pub const DIVERGING: [Rgb; 7] = [
    Rgb(5, 48, 97),
    Rgb(33, 102, 172),
    Rgb(146, 197, 222),
    Rgb(247, 247, 247),
    Rgb(244, 165, 130),
    Rgb(178, 24, 43),
    Rgb(103, 0, 31),
];

/// The colour of a value.
pub fn of(scale: &Scale, value: f64) -> Rgb {
    let colors = if scale.diverging { &DIVERGING } else { &RISING };
    let at = scale.position(value) * (colors.len() - 1) as f64;
    let (i, share) = (at.floor() as usize, at.fract());
    let (Rgb(a, b, c), Rgb(x, y, z)) = (colors[i], colors[(i + 1).min(colors.len() - 1)]);
    let mix = |from: u8, to: u8| {
        (f64::from(from) + share * (f64::from(to) - f64::from(from))).round() as u8
    };
    Rgb(mix(a, x), mix(b, y), mix(c, z))
}

/// The colour of a block with values that are no finite numbers.
pub fn mark(marks: u8) -> Option<Rgb> {
    match marks {
        m if m & NAN != 0 => Some(Rgb(255, 0, 255)),
        m if m & INFINITE != 0 => Some(Rgb(0, 255, 0)),
        m if m & NULL != 0 => Some(Rgb(128, 128, 128)),
        _ => None,
    }
}

/// What the colour of a mark is called.
pub fn mark_name(mark: u8) -> &'static str {
    match mark {
        NAN => "magenta",
        INFINITE => "green",
        _ => "grey",
    }
}

/// The nearest of xterm's 256 colours: a cube of six shades each, and greys.
pub fn palette(color: Rgb) -> u8 {
    const SHADES: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let Rgb(r, g, b) = color;
    let near = |v: u8| {
        let far = |i: &usize| SHADES[*i].abs_diff(v);
        (0..SHADES.len()).min_by_key(far).unwrap_or(0)
    };
    let cube = [near(r), near(g), near(b)];
    let grey = (u16::from(r) + u16::from(g) + u16::from(b)) / 3;
    let step = (grey.saturating_sub(3) / 10).min(23) as u8;
    let distance = |x: Rgb| {
        let square = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
        square(x.0, r) + square(x.1, g) + square(x.2, b)
    };
    let shade = 8 + 10 * step;
    let of_cube = Rgb(SHADES[cube[0]], SHADES[cube[1]], SHADES[cube[2]]);
    if distance(Rgb(shade, shade, shade)) < distance(of_cube) {
        232 + step
    } else {
        16 + 36 * cube[0] as u8 + 6 * cube[1] as u8 + cube[2] as u8
    }
}

/// The nearest of the sixteen colours, as terminals usually have them.
pub fn sixteen(color: Rgb) -> u8 {
    const TABLE: [Rgb; 16] = [
        Rgb(0, 0, 0),
        Rgb(170, 0, 0),
        Rgb(0, 170, 0),
        Rgb(170, 85, 0),
        Rgb(0, 0, 170),
        Rgb(170, 0, 170),
        Rgb(0, 170, 170),
        Rgb(170, 170, 170),
        Rgb(85, 85, 85),
        Rgb(255, 85, 85),
        Rgb(85, 255, 85),
        Rgb(255, 255, 85),
        Rgb(85, 85, 255),
        Rgb(255, 85, 255),
        Rgb(85, 255, 255),
        Rgb(255, 255, 255),
    ];
    let square = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
    let distance = |&i: &u8| {
        let at = TABLE[usize::from(i)];
        square(at.0, color.0) + square(at.1, color.1) + square(at.2, color.2)
    };
    (0..16).min_by_key(distance).unwrap_or(0)
}
