//! What becomes of arrays is decided from plans alone: nothing is read or written here.

use npk::error::ErrorKind;
use npk::format::Capabilities;
use npk::model::{
    ArrayMeta, Categories, CategoryKind, Column, Dtype, Encoding, Logical, Plan, Table,
};
use npk::ops::{Needs, Op, Recipe};
use npk::resolve::fit::fit;
use npk::resolve::nulls::Nulls;
use npk::resolve::policy::{Policy, Strings};
use npk::resolve::table::{self, Layout};
use npk::resolve::{Step, cast};

fn plan(arrays: Vec<ArrayMeta>) -> Plan {
    Plan { format: "mock", arrays: arrays.into(), ..Plan::default() }
}

fn column(name: &str, dtype: Dtype) -> ArrayMeta {
    ArrayMeta::new(name, dtype, &[10])
}

fn text(name: &str) -> ArrayMeta {
    ArrayMeta::column(name, Dtype::U8, Logical::Text, Some(10))
}

fn nullable(name: &str, dtype: Dtype) -> ArrayMeta {
    ArrayMeta { nulls: true, ..column(name, dtype) }
}

/// A table of these columns.
fn table(columns: Vec<ArrayMeta>) -> Plan {
    let named = |a: &ArrayMeta| Column { array: a.name.clone(), header: a.name.clone() };
    let columns_of = columns.iter().map(named).collect();
    let tables = vec![Table { columns: columns_of, ..Table::default() }];
    Plan { tables: tables.into(), ..plan(columns) }
}

/// A sink of numbers as numpy has them, with a side file.
const NUMBERS: Capabilities = Capabilities { sidecar: true, ..Capabilities::DEFAULT };

fn policy() -> Policy {
    Policy { ragged_offsets: false, notes_lists: false, sink: "numbers", ..Policy::default() }
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.arrays.iter().map(|a| a.name.as_str()).collect()
}

#[test]
fn recipes_of_several_steps_are_one() {
    let first = plan(vec![column("a", Dtype::I32), text("t"), column("b", Dtype::F32)]);
    let chosen = Step::choose(&first, &[2, 0]);
    assert_eq!(names(&chosen.plan), ["b", "a"]);
    let casts = [(Some("a".to_string()), Dtype::I64)];
    let cast = cast::cast_arrays(&chosen.plan, &casts, &[], false).unwrap();
    let both: Vec<Recipe> = cast.recipes.iter().map(|r| r.over(&chosen.recipes)).collect();
    assert_eq!((both[0].input, both[0].ops.len()), (2, 0));
    assert_eq!(both[1].input, 0);
    assert!(matches!(
        both[1].ops[..],
        [Op::Cast { from: Dtype::I32, to: Dtype::I64, lossy: false }]
    ));
    assert_eq!(cast.plan.arrays[1].dtype, Dtype::I64);
}

#[test]
fn each_array_says_how_far_it_must_look() {
    let mut when = column("when", Dtype::I64);
    when.logical = Logical::Date64;
    let all = plan(vec![column("i", Dtype::I16), column("h", Dtype::Bf16), text("t"), when]);
    let step = fit(&all, &NUMBERS, &policy()).unwrap();
    let needs: Vec<Needs> = step.recipes.iter().map(Recipe::needs).collect();
    assert_eq!(needs, [Needs::Chunk, Needs::Chunk, Needs::Order, Needs::Chunk]);
    // Beside the text, what needs no change has none.
    assert!(step.recipes[0].ops.is_empty());
    assert!(matches!(step.recipes[1].ops[..], [Op::Cast { to: Dtype::F32, .. }]));
    let encoded: Vec<(&str, bool)> = step
        .plan
        .encoded
        .iter()
        .map(|k| (k.values.as_str(), matches!(k.encoding, Encoding::Widened | Encoding::Codes(_))))
        .collect();
    assert_eq!(encoded, [("h", true), ("t", true)]);
    assert_eq!(step.notes, ["when: date64 is written as plain int64 counts"]);
}

#[test]
fn nulls_and_offsets_get_companions() {
    let all = plan(vec![nullable("n", Dtype::I32), text("t")]);
    let wanted = Policy { strings: Some(Strings::Offsets), ..policy() };
    let step = fit(&all, &NUMBERS, &wanted).unwrap();
    assert_eq!(names(&step.plan), ["n", "n.valid", "t.offsets", "t.bytes"]);
    assert!(matches!(step.recipes[0].ops[..], [Op::DropMask]));
    assert!(matches!(step.recipes[1].ops[..], [Op::Mask]));
    assert!(matches!(step.recipes[2].ops[..], [Op::Offsets]));
    assert_eq!(step.recipes.iter().map(|r| r.input).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert_eq!((step.plan.arrays[2].rows, step.plan.arrays[3].rows), (Some(11), None));
    // A companion may not take the name of another array.
    let taken = plan(vec![nullable("n", Dtype::I32), column("n.valid", Dtype::Bool)]);
    let error = fit(&taken, &NUMBERS, &policy()).unwrap_err();
    assert!(error.message().contains("n.valid"), "{error}");
}

#[test]
fn everything_that_cannot_be_held_is_told_at_once() {
    let list = ArrayMeta::column("l", Dtype::I32, Logical::List, Some(10));
    let all = plan(vec![column("i", Dtype::I16), list, column("c", Dtype::C32)]);
    let error = fit(&all, &NUMBERS, &policy()).unwrap_err();
    assert_eq!((error.kind(), error.array_name()), (ErrorKind::Refused, Some("l")));
    assert_eq!(error.others().len(), 1);
    assert_eq!(error.others()[0].array_name(), Some("c"));
    let step = fit(&all, &NUMBERS, &Policy { skip_unsupported: true, ..policy() }).unwrap();
    assert_eq!(names(&step.plan), ["i"]);
    assert_eq!(step.notes.len(), 2);
}

#[test]
fn a_matrix_takes_its_nulls_column_by_column() {
    let columns = || vec![column("a", Dtype::F32), nullable("b", Dtype::I64)];
    let error = table::import(&table(columns()), Layout::Matrix, "m", None).unwrap_err();
    assert!(error.message().contains("a matrix cannot hold nulls"), "{error}");
    let fill = Nulls::Fill("-1".into());
    let (step, layout) =
        table::import(&table(columns()), Layout::Matrix, "m", Some(&fill)).unwrap();
    let step = step.unwrap();
    assert_eq!(layout, Some("matrix"));
    let matrix = &step.plan.arrays[0];
    assert_eq!((matrix.dtype, matrix.nulls, &matrix.inner[..]), (Dtype::F64, false, &[2][..]));
    assert_eq!(step.recipes[0].needs(), Needs::Rows);
    assert_eq!(step.recipes[0].inputs().collect::<Vec<_>>(), [0, 1]);
    let stack = step.recipes[0].stack().unwrap();
    assert!(stack.columns[0].recipe.ops.is_empty());
    assert!(
        matches!(&stack.columns[1].recipe.ops[..], [Op::Fill(v)] if *v == (-1i64).to_le_bytes())
    );
    // Different types are a matrix only where that is asked for.
    let (step, layout) = table::import(&table(columns()), Layout::Auto, "m", None).unwrap();
    assert!(step.is_none() && layout == Some("columns"));
}

#[test]
fn a_matrix_becomes_columns_of_its_headers() {
    let mut made = plan(vec![ArrayMeta::new("m", Dtype::F32, &[10, 2]), column("i", Dtype::I64)]);
    let header = |h: &str| Column { array: "m".into(), header: h.into() };
    made.tables = vec![Table {
        columns: vec![header("x"), header("y")],
        index: vec!["i".into()],
        matrix: Some("m".into()),
        ..Table::default()
    }]
    .into();
    let step = table::export(&made, Layout::Auto, 1, None).unwrap();
    assert_eq!(names(&step.plan), ["x", "y", "i"]);
    let columns: Vec<usize> = step
        .recipes
        .iter()
        .filter_map(|r| match r.ops[..] {
            [Op::Column { index, width: 2, item: 4 }] => Some(index),
            _ => None,
        })
        .collect();
    assert_eq!(columns, [0, 1]);
    let uneven = plan(vec![column("a", Dtype::I8), ArrayMeta::new("b", Dtype::I8, &[9])]);
    let error = table::export(&uneven, Layout::Auto, 1, None).unwrap_err();
    assert!(error.message().contains("a [10], b [9]"), "{error}");
}

#[test]
fn an_array_of_empty_rows_is_one_column_or_refused() {
    let empty = plan(vec![ArrayMeta::new("e", Dtype::F32, &[3, 0])]);
    let step = table::export(&empty, Layout::Auto, 2, None).unwrap();
    assert_eq!(step.plan.arrays[0].shape().unwrap(), [3, 0]);
    for (layout, max_rank) in [(Layout::Auto, 1), (Layout::Matrix, 1), (Layout::Matrix, 2)] {
        let error = table::export(&empty, layout, max_rank, None).unwrap_err();
        assert!(error.message().contains("shape (3, 0) has no columns"), "{error}");
    }
}

#[test]
fn dictionaries_are_decoded_unless_they_are_text_of_several_dimensions() {
    let categories = Categories::new(CategoryKind::Text, vec![b"a".to_vec()]);
    let coded = Logical::Dictionary { categories, ordered: false };
    let one = ArrayMeta { logical: coded.clone(), ..column("one", Dtype::I32) };
    let two = ArrayMeta { logical: coded, ..ArrayMeta::new("two", Dtype::I32, &[10, 3]) };
    let step = Step::decode(&plan(vec![one, two]));
    assert_eq!(step.plan.arrays[0].type_name(), "string");
    assert!(matches!(step.recipes[0].ops[..], [Op::Decode { .. }]));
    assert!(step.recipes[1].ops.is_empty());
}
