// Package schemas embeds what is published about the formats: the SQL of the read models. It holds nothing else and runs nothing.
package schemas

import "embed"

// MySQL holds the tables of the read models under mysql/, one statement per file, in the order of the file names.
//
//go:embed mysql/*.sql
var MySQL embed.FS
