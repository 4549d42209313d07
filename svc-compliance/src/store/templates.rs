//! Templates that tenants derived.

use super::{Store, StoreError, during};
use crate::domain::{
    asset::AssetClass,
    template::{Defaults, Template, TemplateName},
};
use serde_json::json;
use sqlx::{Row as _, postgres::PgRow};

impl Store {
    /// Keeps what a tenant settles under a name. False: the name is taken.
    pub async fn create_template(
        &self,
        tenant: &str,
        principal: &str,
        template: &Template,
        own: &Defaults,
    ) -> Result<bool, StoreError> {
        let failed = || during("create template");
        let defaults = serde_json::to_value(own)
            .map_err(|error| StoreError::Malformed { what: "template", value: error.to_string() })?;
        let mut commit = self.pool.begin().await.map_err(failed())?;
        let created = sqlx::query(
            "INSERT INTO compliance.templates (tenant_id, name, asset_class, description, defaults, created_by)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(tenant)
        .bind(template.name.as_str())
        .bind(template.class.name())
        .bind(&template.description)
        .bind(&defaults)
        .bind(principal)
        .execute(&mut *commit)
        .await
        .map_err(failed())?
        .rows_affected()
            == 1;
        if created {
            let body = json!({"class": template.class.name(), "defaults": defaults});
            let name = template.name.as_str();
            dalp_engine::audit_leaf(&mut commit, tenant, "template.create", principal, name, body)
                .await
                .map_err(failed())?;
            commit.commit().await.map_err(failed())?;
        }
        Ok(created)
    }

    /// Forgets a template; assets that were made from it stay as they are. False: there was none.
    pub async fn delete_template(
        &self,
        tenant: &str,
        principal: &str,
        name: &TemplateName,
    ) -> Result<bool, StoreError> {
        let failed = || during("delete template");
        let mut commit = self.pool.begin().await.map_err(failed())?;
        let deleted = sqlx::query("DELETE FROM compliance.templates WHERE tenant_id = $1 AND name = $2")
            .bind(tenant)
            .bind(name.as_str())
            .execute(&mut *commit)
            .await
            .map_err(failed())?
            .rows_affected()
            == 1;
        if deleted {
            dalp_engine::audit_leaf(&mut commit, tenant, "template.delete", principal, name.as_str(), json!({}))
                .await
                .map_err(failed())?;
            commit.commit().await.map_err(failed())?;
        }
        Ok(deleted)
    }

    /// A tenant's own template.
    pub async fn template(&self, tenant: &str, name: &TemplateName) -> Result<Option<Template>, StoreError> {
        sqlx::query("SELECT * FROM compliance.templates WHERE tenant_id = $1 AND name = $2")
            .bind(tenant)
            .bind(name.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(during("read template"))?
            .map(parse)
            .transpose()
    }

    /// A tenant's own templates, by name.
    pub async fn templates(&self, tenant: &str) -> Result<Vec<Template>, StoreError> {
        let rows = sqlx::query("SELECT * FROM compliance.templates WHERE tenant_id = $1 ORDER BY name")
            .bind(tenant)
            .fetch_all(&self.pool)
            .await
            .map_err(during("list templates"))?;
        rows.into_iter().map(parse).collect()
    }
}

fn parse(row: PgRow) -> Result<Template, StoreError> {
    let malformed = |what, value: String| StoreError::Malformed { what, value };
    let (name, class): (String, String) = (row.get("name"), row.get("asset_class"));
    let defaults: serde_json::Value = row.get("defaults");
    let own = serde_json::from_value(defaults.clone()).map_err(|_| malformed("template", defaults.to_string()))?;
    let name = TemplateName::new(&name).ok_or_else(|| malformed("template name", name.clone()))?;
    let class = AssetClass::of_name(&class).ok_or_else(|| malformed("asset class", class.clone()))?;
    Ok(Template::derived(name, class, row.get("description"), own))
}
