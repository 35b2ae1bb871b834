package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"
)

// A constant is a value that a field may have, and what it means.
type constant struct{ Name, Value, Says string }

// A group is the constants of one const block.
type group struct {
	Says      string
	Constants []constant
}

// source is what only the text of our packages tells: comments, blocks of constants, and which guards a verb can meet.
type source struct {
	comments map[string]string // by package.Type or package.Type.Field
	groups   map[string]*group // by package.Constant
	values   map[string]string // of constants, by name
	order    []string          // wire names and verbs, as their tables list them
	decide   map[string]string // function that decides, by kind.verb

	calls, uses map[string]map[string]bool // what a function calls, and names
}

// packagesRead are those that hold what is on the wire.
var packagesRead = []string{"events", "events/desired", "commands"}

func readSource() (*source, error) {
	s := &source{
		groups: map[string]*group{}, values: map[string]string{}, decide: map[string]string{},
		calls: map[string]map[string]bool{}, uses: map[string]map[string]bool{},
	}
	r := &jsonschema.Reflector{}
	for _, dir := range packagesRead {
		if err := r.AddGoComments("cloudengine", dir, jsonschema.WithFullComment()); err != nil {
			return nil, fmt.Errorf("read comments of %s: %w", dir, err)
		}
		paths, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", dir, err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, fmt.Errorf("parse %s: %w", path, err)
			}
			s.readFile(f)
		}
	}
	s.comments = r.CommentMap
	return s, nil
}

func (s *source) readFile(f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			if d.Tok == token.CONST {
				s.readConstants(f.Name.Name, d)
			} else if d.Tok == token.VAR {
				ast.Inspect(d, s.readName)
			}
		case *ast.FuncDecl:
			s.readFunction(f.Name.Name, d)
		}
	}
}

func (s *source) readConstants(pkg string, d *ast.GenDecl) {
	g := &group{Says: oneLine(d.Doc.Text())}
	for _, spec := range d.Specs {
		v := spec.(*ast.ValueSpec)
		for i, name := range v.Names {
			if i >= len(v.Values) {
				continue
			}
			lit, ok := v.Values[i].(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				continue
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				continue
			}
			g.Constants = append(g.Constants, constant{name.Name, text, oneLine(v.Comment.Text())})
			s.groups[pkg+"."+name.Name] = g
			s.values[name.Name] = text
		}
	}
}

// readName notes a line of the table of decoders: its order is the order in which things happen.
func (s *source) readName(n ast.Node) bool {
	if kv, ok := n.(*ast.KeyValueExpr); ok {
		key, ok1 := kv.Key.(*ast.BasicLit)
		value, ok2 := kv.Value.(*ast.IndexExpr)
		if ok1 && ok2 {
			if f, ok := value.X.(*ast.Ident); ok && f.Name == "decode" {
				s.order = append(s.order, strings.Trim(key.Value, `"`))
			}
		}
	}
	return true
}

// readFunction notes what a function of package commands calls and names, and which verbs the table gives to whom. It follows plain
// functions and the methods of a decision in the making, by the receiver's name d: a decider calls no others that refuse.
func (s *source) readFunction(pkg string, f *ast.FuncDecl) {
	if pkg != "commands" || f.Body == nil {
		return
	}
	name := f.Name.Name
	if f.Recv != nil && len(f.Recv.List[0].Names) == 1 {
		name = f.Recv.List[0].Names[0].Name + "." + name
	}
	calls, uses := map[string]bool{}, map[string]bool{}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			switch called := n.Fun.(type) {
			case *ast.Ident:
				calls[called.Name] = true
			case *ast.SelectorExpr:
				if on, ok := called.X.(*ast.Ident); ok && on.Name == "d" {
					calls["d."+called.Sel.Name] = true
				}
			}
		case *ast.Ident:
			uses[n.Name] = true
		case *ast.KeyValueExpr:
			s.readVerb(n)
		}
		return true
	})
	s.calls[name], s.uses[name] = calls, uses
}

func (s *source) readVerb(n *ast.KeyValueExpr) {
	key, ok1 := n.Key.(*ast.BasicLit)
	call, ok2 := n.Value.(*ast.CallExpr)
	if !ok1 || !ok2 || len(call.Args) != 2 {
		return
	}
	fun, ok1 := call.Fun.(*ast.Ident)
	decide, ok2 := call.Args[1].(*ast.Ident)
	if !ok1 || !ok2 || fun.Name != "verb" {
		return
	}
	if verb, err := strconv.Unquote(key.Value); err == nil {
		s.decide[verb] = decide.Name
		s.order = append(s.order, verb)
	}
}

// guards lists the guards that the decider of a verb can refuse by: those that a function names which it calls, or which those call.
func (s *source) guards(verb string) ([]constant, error) {
	start, ok := s.decide[verb]
	if !ok {
		return nil, fmt.Errorf("find the decider of %s: the table of verbs does not read as it did", verb)
	}
	all, ok := s.groups["commands.GuardEndProof"]
	if !ok {
		return nil, fmt.Errorf("find the guards: there is no constant commands.GuardEndProof")
	}
	seen, todo := map[string]bool{start: true}, []string{start}
	found := map[constant]bool{}
	for len(todo) > 0 {
		f := todo[0]
		todo = todo[1:]
		for _, g := range all.Constants {
			if s.uses[f][g.Name] {
				found[g] = true
			}
		}
		for next := range s.calls[f] {
			if !seen[next] && s.calls[next] != nil {
				seen[next] = true
				todo = append(todo, next)
			}
		}
	}
	out := []constant{}
	for g := range found {
		out = append(out, g)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Value < out[j].Value })
	return out, nil
}

var (
	goConstant = regexp.MustCompile(`\b[A-Z][a-z]+[A-Z][A-Za-z]*\b`)
	seeAlso    = regexp.MustCompile(`:? ?[A-Z][A-Za-z]+ …$`) // "DomainRunning …": the schema lists the values itself
)

// says gives the comment of a type or field as one line, with the values of constants instead of their Go names.
func (s *source) says(key string) string {
	text := seeAlso.ReplaceAllString(oneLine(s.comments[key]), "")
	return goConstant.ReplaceAllStringFunc(text, func(name string) string {
		if v, ok := s.values[name]; ok {
			return `"` + v + `"`
		}
		return name
	})
}

// saysType gives the comment of a type without the Go name that it begins with.
func (s *source) saysType(key string) string {
	text := s.says(key)
	text = strings.TrimPrefix(text, key[strings.LastIndex(key, ".")+1:]+" ")
	return capital(strings.TrimPrefix(text, "is "))
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
