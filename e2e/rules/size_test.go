package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// Limits in lines. They are kept or changed, not silenced.
const (
	maxFile     = 600
	maxFunction = 80
)

func TestSizes(t *testing.T) {
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			if strings.HasSuffix(name, "_gen.go") {
				continue
			}
			path := filepath.Join(p.Dir, name)
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatalf("parse %s: %v", path, err)
			}
			if n := fset.File(f.Pos()).LineCount(); n > maxFile {
				t.Errorf("%s/%s has %d lines, more than %d: it is two things", p.ImportPath, name, n, maxFile)
			}
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > maxFunction {
					t.Errorf("%s/%s: %s has %d lines, more than %d", p.ImportPath, name, fn.Name.Name, n, maxFunction)
				}
			}
		}
	}
}
