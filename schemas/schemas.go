// Package schemas embeds what is published about the formats: the JSON Schemas of all events, commands and envelopes, and the SQL of the
// read models. It holds nothing else and runs nothing.
//
// CATALOGUE.md, beside the schemas, is for people. Both are generated from the Go types; a test says when they are not what the types are.
package schemas

import "embed"

//go:generate go run ./generate

// JSON holds the JSON Schemas (draft 2020-12): json/events/<wire name>.json is the data of an event, json/commands/<kind>.<verb>.json the
// arguments of an intent, json/envelopes/<name>.json what carries them. They refer to each other by relative paths.
//
//go:embed json
var JSON embed.FS

// MySQL holds the tables of the read models under mysql/, one statement per file, in the order of the file names.
//
//go:embed mysql/*.sql
var MySQL embed.FS
