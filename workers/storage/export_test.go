package storage

// WipeMember is wipeMember, for tests.
var WipeMember = wipeMember
