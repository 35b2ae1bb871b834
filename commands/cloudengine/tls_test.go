package main

import "testing"

func TestDatabaseIsPlain(t *testing.T) {
	for dsn, want := range map[string]bool{
		"": false, "user@unix(/run/db.sock)/x": false, "user@tcp(127.0.0.1:3306)/x": false, "user@tcp([::1]:3306)/x": false, "user@tcp(localhost)/x": false,
		"user:p@tcp(10.0.0.5:3306)/x": true, "user@tcp(db.example)/x?parseTime=true": true, "user@tcp(10.0.0.5:3306)/x?tls=true": false,
	} {
		if got := databaseIsPlain(dsn); got != want {
			t.Errorf("%s: %t", dsn, got)
		}
	}
}
