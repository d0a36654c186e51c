//! The mapped library views.
