// Package backup keeps all of a server that cannot be derived in one file, and lays out a new data directory from it.
//
// A backup holds the log up to a decision, byte for byte as it is stored; the files of the data directory but those that follow from the
// log (streams, database, snapshots); the configuration and the secrets that it names outside; and at its end a manifest with the SHA-256
// of each. It is a tar, packed with zstd, of mode 0600: it holds the keys of the whole cloud.
//
// It promises that the file is whole or not there under its name, that the log's chain was verified when it was written and is verified
// again when it is restored, that it says which blobs and secrets that the log names are not in it, and that a restore gives a complete directory or none. It does
// not encrypt, and it does not raise the term: a marker file in the restored directory has the next start of the server do that.
package backup

import (
	"errors"
	"io/fs"
	"time"
)

// Format is the version of the form that this program writes; it reads no other.
const Format = 1

const kind = "cloudengine backup"

// Names of what is in a backup.
const (
	manifestName = "manifest.json" // the last
	logName      = "log"           // an archive (package archive)
	dataPrefix   = "data/"         // files of the data directory
	outerPrefix  = "outside/"      // files that the configuration names elsewhere, and itself
)

// Errors of Restore. They say that the file is not what it should be; nothing was restored.
var (
	ErrNotBackup = errors.New("this is no whole backup")
	ErrVersion   = errors.New("the backup is of a newer form: use a newer program")
	ErrDigest    = errors.New("the backup was changed or is damaged")
	ErrNotEmpty  = errors.New("the directory is not empty")
)

// Manifest says what a backup holds.
type Manifest struct {
	Kind    string    `json:"kind"`
	Format  int       `json:"format"`
	Made    time.Time `json:"made"`
	Version string    `json:"version"` // of the program that made it
	Log     Log       `json:"log"`
	Files   []File    `json:"files"`             // the log among them
	Missing []string  `json:"missing,omitempty"` // files that the log names and that were not there
}

// Log says how far the log of a backup goes.
type Log struct {
	Blocks uint64    `json:"blocks"`
	Number uint64    `json:"number"` // of its last decision
	Term   uint64    `json:"term"`
	Head   string    `json:"head"` // SHA-256 (hex) of the last block
	Time   time.Time `json:"time"` // of the last block
}

// File is one file of a backup.
type File struct {
	Name   string      `json:"name"`
	Size   int64       `json:"size"`
	Mode   fs.FileMode `json:"mode"`
	SHA256 string      `json:"sha256"`
}

// Mark is what a restore leaves in the data directory, for the next start of the server.
type Mark struct {
	Number uint64    `json:"number"` // of the last decision of the backup
	Head   string    `json:"head"`
	At     time.Time `json:"at"` // when it was restored
}

// Progress hears what is being done: the entry, and the log's blocks so far and in all.
type Progress func(entry string, done, all uint64)
