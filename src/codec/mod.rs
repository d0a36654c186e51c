//! What two formats share. Knows no format.
