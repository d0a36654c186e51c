//! The element types, one row each: what every file format calls them.

/// The element types of the model.
///
/// Sub-byte types (F4, F6) travel as `U8` with [`super::Logical::Packed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Dtype {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    F32,
    F64,
    C64,
    C128,
    /// bfloat16: the upper half of a float32.
    Bf16,
    /// float8, 4 exponent and 3 mantissa bits, finite (OCP E4M3).
    F8E4m3,
    /// float8, 5 exponent and 2 mantissa bits (OCP E5M2).
    F8E5m2,
    /// float8 E4M3 without negative zero and infinities, bias 8.
    F8E4m3Fnuz,
    /// float8 E5M2 without negative zero and infinities, bias 16.
    F8E5m2Fnuz,
    /// float8 of exponent bits alone: powers of two and NaN.
    F8E8m0,
    /// complex of two float16.
    C32,
}

use Class::{Bool, Complex, Float, Float8, Signed, Unsigned};

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Bool,
    Unsigned,
    Signed,
    Float,
    Float8,
    Complex,
}

/// What is known of a dtype. An empty name: the format lacks it.
struct Row {
    dtype: Dtype,
    class: Class,
    item_bytes: u64,
    /// numpy's name, or that of ml_dtypes and torch.
    name: &'static str,
    /// As numpy's files spell it.
    numpy: &'static str,
    /// In a header of safetensors.
    safetensors: &'static str,
    /// torch's storage class without `Storage`; types that torch added later have none.
    torch: &'static str,
    /// Other usual names.
    aliases: &'static [&'static str],
}

#[allow(clippy::too_many_arguments)]
const fn row(
    dtype: Dtype,
    class: Class,
    item_bytes: u64,
    name: &'static str,
    numpy: &'static str,
    safetensors: &'static str,
    torch: &'static str,
    aliases: &'static [&'static str],
) -> Row {
    Row { dtype, class, item_bytes, name, numpy, safetensors, torch, aliases }
}

/// In the order of [`Dtype`].
#[rustfmt::skip]
static TABLE: [Row; 21] = [
    row(Dtype::Bool, Bool, 1, "bool", "|b1", "BOOL", "Bool", &["?", "b1", "boolean"]),
    row(Dtype::U8, Unsigned, 1, "uint8", "|u1", "U8", "Byte", &["u1"]),
    row(Dtype::U16, Unsigned, 2, "uint16", "<u2", "U16", "", &["u2"]),
    row(Dtype::U32, Unsigned, 4, "uint32", "<u4", "U32", "", &["u4"]),
    row(Dtype::U64, Unsigned, 8, "uint64", "<u8", "U64", "", &["u8"]),
    row(Dtype::I8, Signed, 1, "int8", "|i1", "I8", "Char", &["i1"]),
    row(Dtype::I16, Signed, 2, "int16", "<i2", "I16", "Short", &["i2"]),
    row(Dtype::I32, Signed, 4, "int32", "<i4", "I32", "Int", &["i4"]),
    row(Dtype::I64, Signed, 8, "int64", "<i8", "I64", "Long", &["i8", "int"]),
    row(Dtype::F16, Float, 2, "float16", "<f2", "F16", "Half", &["f2", "half", "fp16"]),
    row(Dtype::F32, Float, 4, "float32", "<f4", "F32", "Float", &["f4", "single", "fp32"]),
    row(Dtype::F64, Float, 8, "float64", "<f8", "F64", "Double", &["f8", "float", "double", "fp64"]),
    row(Dtype::C64, Complex, 8, "complex64", "<c8", "C64", "ComplexFloat", &["c8"]),
    row(Dtype::C128, Complex, 16, "complex128", "<c16", "", "ComplexDouble", &["c16", "complex"]),
    row(Dtype::Bf16, Float, 2, "bfloat16", "", "BF16", "BFloat16", &["bf16"]),
    row(Dtype::F8E4m3, Float8, 1, "float8_e4m3fn", "", "F8_E4M3", "", &["float8_e4m3", "fp8_e4m3"]),
    row(Dtype::F8E5m2, Float8, 1, "float8_e5m2", "", "F8_E5M2", "", &["fp8_e5m2"]),
    row(Dtype::F8E4m3Fnuz, Float8, 1, "float8_e4m3fnuz", "", "F8_E4M3FNUZ", "", &[]),
    row(Dtype::F8E5m2Fnuz, Float8, 1, "float8_e5m2fnuz", "", "F8_E5M2FNUZ", "", &[]),
    row(Dtype::F8E8m0, Float8, 1, "float8_e8m0fnu", "", "F8_E8M0", "", &[]),
    row(Dtype::C32, Complex, 4, "complex32", "", "", "", &[]),
];

/// A name of the table, if there is one.
const fn named(name: &'static str) -> Option<&'static str> {
    if name.is_empty() { None } else { Some(name) }
}

impl Dtype {
    /// Every dtype, in the model's order.
    pub const ALL: [Dtype; 21] = {
        let mut all = [Dtype::Bool; 21];
        let mut i = 0;
        while i < all.len() {
            all[i] = TABLE[i].dtype;
            assert!(all[i] as usize == i, "the table has the order of the enum");
            i += 1;
        }
        all
    };

    /// NumPack's fourteen types, which numpy has too; the complex ones last.
    pub const NUMPY: &[Dtype] = Dtype::ALL.split_at(14).0;

    /// What Arrow, Feather and Parquet have of them.
    pub const ARROW: &[Dtype] = Dtype::ALL.split_at(12).0;

    /// What safetensors has of them.
    pub const SAFETENSORS: &[Dtype] = {
        static HELD: [Dtype; 19] = {
            let (mut held, mut n, mut i) = ([Dtype::Bool; 19], 0, 0);
            while i < TABLE.len() {
                if !TABLE[i].safetensors.is_empty() {
                    held[n] = TABLE[i].dtype;
                    n += 1;
                }
                i += 1;
            }
            assert!(n == held.len(), "as many as there are");
            held
        };
        &HELD
    };

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    fn found(is: impl Fn(&Row) -> bool) -> Option<Dtype> {
        TABLE.iter().find(|row| is(row)).map(|row| row.dtype)
    }

    /// Bytes of one element.
    pub fn item_bytes(self) -> u64 {
        self.row().item_bytes
    }

    /// numpy's name, or the name that ml_dtypes and torch use.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// As numpy's files spell it: `<f4`.
    pub fn numpy(self) -> Option<&'static str> {
        named(self.row().numpy)
    }

    /// As a header of safetensors spells it: `F32`.
    pub fn safetensors(self) -> Option<&'static str> {
        named(self.row().safetensors)
    }

    /// torch's typed storage, without the ending `Storage`: `Float`.
    pub fn torch_storage(self) -> Option<&'static str> {
        named(self.row().torch)
    }

    /// The dtype of this name in safetensors.
    pub fn of_safetensors(name: &str) -> Option<Dtype> {
        Dtype::found(|row| row.safetensors == name && !name.is_empty())
    }

    /// The dtype of torch's storage class of this name, `FloatStorage`.
    pub fn of_torch_storage(class: &str) -> Option<Dtype> {
        let name = class.strip_suffix("Storage").filter(|name| !name.is_empty())?;
        Dtype::found(|row| row.torch == name)
    }

    /// The dtype of this [`Dtype::name`].
    pub fn of_name(name: &str) -> Option<Dtype> {
        Dtype::found(|row| row.name == name)
    }

    /// The dtype of this [`Dtype::name`], or of a usual short form (`f4`, `<f4`, `float`, `half`,
    /// `bf16`).
    pub fn parse(text: &str) -> Option<Dtype> {
        let text = text.trim();
        let short = text.trim_start_matches(['<', '=', '|']);
        Dtype::of_name(text).or_else(|| Dtype::found(|row| row.aliases.contains(&short)))
    }

    /// float8 of any kind.
    pub fn is_float8(self) -> bool {
        self.row().class == Float8
    }
    /// A real floating-point type of any width.
    pub fn is_float(self) -> bool {
        matches!(self.row().class, Float | Float8)
    }
    /// A complex type.
    pub fn is_complex(self) -> bool {
        self.row().class == Complex
    }
    /// A signed or unsigned integer.
    pub fn is_integer(self) -> bool {
        matches!(self.row().class, Unsigned | Signed)
    }
    /// The least and the largest value of an integer.
    pub fn integer_range(self) -> Option<std::ops::RangeInclusive<i128>> {
        let bits = 8 * self.item_bytes() as u32;
        match self.row().class {
            Unsigned => Some(0..=(1 << bits) - 1),
            Signed => Some(-(1 << (bits - 1))..=(1 << (bits - 1)) - 1),
            _ => None,
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
