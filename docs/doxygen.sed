# What Doxygen reads in place of a public header; its comments are written to be read as they are.

# "Ownership: ..." begins a paragraph of that name. Its text keeps the column of the comment: Doxygen takes lines
# that stand further to the right than others for code.
s/^( *\* )(Ownership|Threads|Blocking|Errors|Contract): +/\1@par \2\n\1/
s/^( *)\/\*\* (Ownership|Threads|Blocking|Errors|Contract): +/\1\/** @par \2\n\1 * /

# A "@name" is a chapter of the reference: docs/reference has a heading for each.
s/^\/\*\* @name ([A-Z])([a-z]+)/\/** @defgroup \L\1\2\E \1\2/

# The namespaces that keep builds with and without exceptions apart are no part of any name.
/^inline namespace (throwing|returning) \{$/d
/^\}  \/\/ namespace returning or throwing$/d

# A name that is both a tag and a type is one thing.
s/^typedef (struct|enum) ([a-z_]+) \{$/\1 \2 {/
s/^\} dynamo_[a-z_]+_t;$/};/

# Names of headers are no links.
/@file/!s/^( \*.*[ (])(dynamo_llm\.h)\b/\1%\2/
