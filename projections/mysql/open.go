// Package mysql keeps the read models in MariaDB. It is the only user of the driver.
//
// It starts a private server or opens one by its DSN, makes the tables, and applies batches of decisions: rows and checkpoint in one
// transaction, guarded by the checkpoint, so that each decision has its effect exactly once and only one owner writes. It holds no
// rules about what a row says: those are in package projections. It does not read the log by itself; a Reader is given to it.
package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	driver "github.com/go-sql-driver/mysql"
)

// DefaultDatabase is the name of the database that holds the read models, unless a DSN names another.
const DefaultDatabase = "cloudengine"

// sqlMode makes MariaDB as strict as MySQL 8.
const sqlMode = "'STRICT_TRANS_TABLES,ONLY_FULL_GROUP_BY,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"

// Config says which server keeps the read models.
type Config struct {
	DSN  string // user:password@tcp(host:3306)/database?…; empty: a private server
	Dir  string // folder of the private server's files; it is made if it is not there
	Log  *slog.Logger
	Pool int // buffer pool of the private server, MiB; 0 = 128
}

// Database is an open database with all tables in it. Its DB may be used for reading by anyone.
type Database struct {
	DB      *sql.DB
	private *Private
	config  *driver.Config // of DB
}

// Open starts or reaches the server, makes our database and its tables in it, and returns when it answers.
// The context bounds the opening only.
func Open(ctx context.Context, c Config) (*Database, error) {
	var private *Private
	var cfg *driver.Config
	if c.DSN == "" {
		p, err := StartPrivate(ctx, c.Dir, c.Pool, c.Log)
		if err != nil {
			return nil, err
		}
		private, cfg = p, p.config()
	} else {
		parsed, err := driver.ParseDSN(c.DSN)
		if err != nil {
			return nil, fmt.Errorf("read the DSN of the database: %w", err) // the driver's text holds no password
		}
		cfg = parsed
	}
	db, err := openDatabase(ctx, cfg)
	if err == nil {
		if err = Migrate(ctx, db); err == nil {
			return &Database{db, private, prepare(cfg)}, nil
		}
		err = errors.Join(err, db.Close())
	}
	if private != nil {
		err = errors.Join(err, private.Close())
	}
	return nil, err
}

// Close ends all connections, and the private server if there is one. It waits until that has ended.
func (d *Database) Close() error {
	err := d.DB.Close()
	if d.private != nil {
		err = errors.Join(err, d.private.Close())
	}
	return err
}

// Private gives the private server, nil if there is none.
func (d *Database) Private() *Private { return d.private }

// prepare sets what the program relies on, whatever the DSN says.
func prepare(cfg *driver.Config) *driver.Config {
	cfg = cfg.Clone()
	if cfg.DBName == "" {
		cfg.DBName = DefaultDatabase
	}
	cfg.Collation = "utf8mb4_bin"
	cfg.InterpolateParams = true // one round trip, no statement on the server
	cfg.ParseTime, cfg.Loc = true, time.UTC
	cfg.MultiStatements = false
	cfg.Logger = &driver.NopLogger{} // what it would print is in the errors that it returns
	if cfg.Params == nil {
		cfg.Params = map[string]string{}
	}
	cfg.Params["sql_mode"] = sqlMode
	cfg.Params["time_zone"] = "'+00:00'"
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	return cfg
}

// openDatabase creates the database if it is not there, and opens it.
func openDatabase(ctx context.Context, cfg *driver.Config) (*sql.DB, error) {
	cfg = prepare(cfg)
	name := cfg.DBName
	if !isName(name) {
		return nil, fmt.Errorf("open database %q: want a name of a–z, 0–9 and _", name)
	}
	err := use(withoutDatabase(cfg), func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS `"+name+"` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create database %s: %w", name, err)
	}
	db, err := connect(cfg)
	if err != nil {
		return nil, err
	}
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", name, err), db.Close())
	}
	return db, nil
}

func connect(cfg *driver.Config) (*sql.DB, error) {
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("configure the database driver: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(8)
	return db, nil
}

func use(cfg *driver.Config, f func(*sql.DB) error) error {
	db, err := connect(cfg)
	if err != nil {
		return err
	}
	return errors.Join(f(db), db.Close())
}

func withoutDatabase(cfg *driver.Config) *driver.Config {
	cfg = cfg.Clone()
	cfg.DBName = ""
	return cfg
}

func isName(s string) bool {
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_') {
			return false
		}
	}
	return s != "" && len(s) <= 60
}

// Schema is the name of the database that holds the live read models.
func (d *Database) Schema() string { return d.config.DBName }
